r"""/etc/default/xendomains: settings of Xen's own script, which that script has bash read.

::

    # text
    XENDOMAINS_SAVE=/var/lib/xen/save           assignments, quoted as for a shell
    PEER=other; export PEER                     commands end with the line or ";"
    XENDOMAINS_MIGRATE="$PEER \
                        --live"                 of variables those that are set before

Nothing is executed here.  A value that a shell would have to compute is not known: what a program
prints, what depends on a condition, on the environment, or on which files there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xenqemu.errors import UsageError

MAX_TEXT = 1 << 16
"""Bytes of the file at most; Debian's has 3000."""

MAX_VALUE = 4096
"""Characters of a value at most: with variables each may be twice as long as the one before."""

_TOKEN = re.compile(
    r"""(?P<blank>(?:[ \t]|\\\n)+) | (?P<comment>\#[^\n]*) | (?P<end>[\n;])
    | (?P<word>(?:'[^']*' | "(?:[^"\\]|\\.)*" | \\. | \$\{[^}]{0,256}\} | [^\s'"\\;&|<>()])+)
    | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(
    r"""'(?P<single>[^']*)' | "(?P<double>(?:[^"\\]|\\.)*)" | (?P<bare>(?:\\.|[^'"\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_PART = re.compile(
    r"""\\(?P<escaped>.) | \$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})
    | (?P<computed>[$`]) | (?P<plain>.)""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ASSIGNMENT = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<more>\+?)=(?P<value>.*)", re.DOTALL | re.ASCII)
_BEGIN = frozenset(("if", "for", "while", "until", "case", "select"))
_END = frozenset(("fi", "done", "esac"))
_BETWEEN = frozenset(("then", "do", "else", "elif", "!"))


@dataclass(frozen=True)
class Assigned:
    """What a name is set to: as the text writes it, and the value, None if a shell computes it."""

    text: str
    value: str | None


def read(text: bytes, where: str) -> dict[str, Assigned]:
    """Return what the text sets of xendomains' names; of one that is set twice, the last.

    Raises `UsageError` for a text that is too long; `where` names it there.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"{where}: expected at most {MAX_TEXT} bytes, got more")
    known: dict[str, Assigned] = {}
    blocks = brackets = 0
    decoded = text.decode(errors="surrogateescape").replace("\r\n", "\n")  # of an editor's making
    for words, written in _commands(decoded):
        first = next((word for word in words if word not in _BETWEEN), "")
        blocks += (first in _BEGIN) + words.count("{")
        brackets += words.count("(")
        _take(words, written, known, certain=not (blocks or brackets))
        blocks = max(blocks - (first in _END) - words.count("}"), 0)
        brackets = max(brackets - words.count(")"), 0)  # a pattern of "case" has but one
    return {name: value for name, value in known.items() if name.startswith("XENDOMAINS_")}


def _commands(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the words of each command, and what else is between them; and as it is written."""
    words: list[str] = []
    begin = 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup in {"word", "other"}:
            begin = begin if words else token.start()
            words.append(token[0])
        elif token.lastgroup == "end" and not (token[0] == "\n" and words[-1:] in (["&"], ["|"])):
            yield words, text[begin : token.start()]
            words = []
    yield words, text[begin:]


def _take(words: list[str], written: str, known: dict[str, Assigned], *, certain: bool) -> None:
    """Note what a command sets.

    Unless it is of assignments alone, and `certain` to be executed, their values are not known.
    """
    exported = words[:1] == ["export"]
    rest = words[1:] if exported else words
    found = [match for word in rest if (match := _ASSIGNMENT.fullmatch(word))]
    named = [word for word in rest if exported and word.isidentifier()]
    certain = certain and len(found) + len(named) == len(rest)
    for match in found:
        if certain and not match["more"]:
            assigned = Assigned(match["value"], _value(match["value"], known))
        else:
            assigned = Assigned(written.removeprefix(f"{match['name']}=").strip(), None)
        known[match["name"]] = assigned


def _value(text: str, known: Mapping[str, Assigned]) -> str | None:
    """Return what a shell makes of a value, None if it would compute it."""
    value = ""
    for piece in _PIECE.finditer(text):
        if piece["single"] is not None:
            value += piece["single"]
            continue
        bare = piece["bare"] is not None
        for part in _PART.finditer(piece["bare"] if bare else piece["double"]):
            made = _made(part, known, bare=bare)
            if made is None:
                return None
            value += made
            if len(value) > MAX_VALUE:
                return None
    return value


def _made(part: re.Match[str], known: Mapping[str, Assigned], *, bare: bool) -> str | None:
    """Return what a shell makes of one part of a value, None if it would compute it."""
    match part.lastgroup:
        case "escaped":
            if part["escaped"] == "\n":
                return ""
            return part["escaped"] if bare or part["escaped"] in '"\\$`' else part[0]
        case "name" | "braced" as group:
            variable = known.get(part[group])
            return variable.value if variable else None
        case "computed":
            return None
    return None if bare and part[0] in "*?[~" else part[0]  # the script leaves "*" to the shell
