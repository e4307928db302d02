r"""The text of an xl.cfg file: names and what they are set to.

::

    file        [ assignment ] { ( NEWLINE | ";" ) [ assignment ] }
    assignment  NAME ( "=" | "+=" ) value
    value       STRING | NUMBER | "[" { NEWLINE } [ items ] "]"
    items       value { NEWLINE } { "," { NEWLINE } value { NEWLINE } } [ "," { NEWLINE } ]
    NAME        [a-z][._0-9a-z]*
    NUMBER      [0-9][0-9a-fx]*                          C's spellings: 10, 0x0a, 012
    STRING      '…' or "…" on one line; escapes \\ \' \" \a \b \f \n \r \t \v
    NEWLINE     LF, or "#" and the rest of a line with its LF

The grammar is libxlu's (libxlu_cfg_l.l, libxlu_cfg_y.y), which knows text only: `memory = "64"`
and `name = 5` are good there and here.  What libxlu refuses is refused.  Of its numeric escapes
\x41 is an error, and \101 vanishes.

libxlu reads bytes.  Those that are not UTF-8 are kept as lone surrogates ("surrogateescape"), so
that a comment may have them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from xenqemu.errors import BadRecord, FormatError, TooBig

Value: TypeAlias = "str | int | list[Value]"

MAX_TEXT = 1 << 20
"""Bytes of a configuration at most; xl's own examples have a few hundred."""
MAX_DEPTH = 16
"""Lists in lists at most; no key of xl has more than two."""

_TOKEN = re.compile(
    r"""[ \t]*+(?:(?P<end>\Z)|(?P<newline>\n|\#[^\n]*+\n)|(?P<name>[a-z][._0-9a-z]*+)
    |(?P<number>[0-9][0-9a-fx]*+)|(?P<mark>\+=|[=;,\[\]])
    |(?P<string>'(?:[^'\\\n\0]|\\[^\n\0])*+'|"(?:[^"\\\n\0]|\\[^\n\0])*+"))""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:[0-7][0-9]{2,3}|(?P<letter>.))", re.ASCII)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"'} | dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_LONG = re.compile(
    r"\s*(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)"
    r"|(?P<decimal>[1-9][0-9]{0,18}))",
    re.ASCII,
)
_BASES = {"hex": 16, "octal": 8, "decimal": 10}


class Number(str):
    """A bare NUMBER: text, as in libxlu, until its value is read."""

    __slots__ = ()


@dataclass
class Setting:
    """The value of a name so far: pieces of one string, or items of one list.

    `index` is where the value stands in the text; `added` says that `+=` came last.
    """

    index: int
    many: bool
    added: bool
    parts: list[Value]

    @property
    def value(self) -> Value:
        """The value as libxlu has it: a string or a list."""
        if self.many:
            return self.parts
        return self.parts[0] if len(self.parts) == 1 else "".join(map(str, self.parts))


def parse(text: str) -> dict[str, Setting]:
    """Return what the text sets; raise `BadRecord` with the line and the offset if xl refuses it.

    Lists in too many lists are a `TooBig`.
    """
    settings, wrong = parse_leniently(text)
    if wrong is not None:
        raise wrong
    return settings


def parse_leniently(text: str) -> tuple[dict[str, Setting], FormatError | None]:
    """Return what the text sets without its faulty lines, and the first error.

    libxlu goes on at the next line too, to report all errors before it refuses the file.
    """
    tokens, settings, first = _Tokens(text), dict[str, Setting](), None
    while True:
        try:
            _statements(tokens, settings)
            break
        except _Fault as fault:
            first = first or fault
            tokens.skip_line()
    if first is None:
        return settings, None
    kind = TooBig if first.too_big else BadRecord
    return settings, error_at(text, first.index, first.expected, first.got, kind)


def error_at(
    text: str, index: int, expected: str, got: str, kind: type[FormatError] = BadRecord
) -> FormatError:
    """Return the error for what stands at an index of the text."""
    line = text.count("\n", 0, index) + 1
    offset = len(text[:index].encode(errors="surrogateescape"))
    return kind(f"xl.cfg line {line}", offset, expected, got)


def long_value(text: str) -> int | None:
    """Return the value of all of `text` by C's strtol with base 0, None if it has none."""
    match = _LONG.fullmatch(text)
    if match is None or match.lastgroup is None:
        return None
    value = int(match["sign"] + match[match.lastgroup], _BASES[match.lastgroup])
    return value if -(1 << 63) <= value < 1 << 63 else None


def decoded(text: str | bytes) -> str:
    """Return the text of a file; raise `TooBig`, or `BadRecord` for what no bytes can be."""
    if len(text) > MAX_TEXT:
        raise TooBig("xl.cfg", 0, f"at most {MAX_TEXT} bytes", str(len(text)))
    try:
        data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise BadRecord("xl.cfg", error.start, "UTF-8", error.reason) from error
    return data.decode(errors="surrogateescape")


class _Fault(Exception):
    """What libxlu does not take, at an index of the text."""

    def __init__(self, index: int, expected: str, got: str, *, too_big: bool = False) -> None:
        super().__init__(expected)
        self.index = index
        self.expected = expected
        self.got = got
        self.too_big = too_big


class _Tokens:
    """The words of the text, one at a time; `kind` and `word` are of the one at `index`.

    The first is there after `advance`.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.index, self.kind, self.word = 0, "", ""
        self._next = 0

    def advance(self) -> None:
        """Go to the next word."""
        match = _TOKEN.match(self.text, self._next)
        if match is None or match.lastgroup is None:
            self.index = _after_blanks(self.text, self._next)
            self.word = self.text[self.index : self.index + 1]
            raise self.wrong("a name, a value, a mark or a whole line of comment")
        self.word = match[match.lastgroup]
        self.kind = self.word if match.lastgroup == "mark" else match.lastgroup
        self.index = match.start(match.lastgroup)
        self._next = match.end()

    def take(self, *kinds: str) -> str:
        """Return the present word, which must be of one of `kinds`, and go to the next."""
        word = self.word
        if self.kind not in kinds:
            raise self.wrong(" or ".join(kinds))
        self.advance()
        return word

    def skip_newlines(self) -> None:
        """Go to the next word that is no newline."""
        while self.kind == "newline":
            self.advance()

    def skip_line(self) -> None:
        """Have the next `advance` go to the first word of the next line."""
        end = self.text.find("\n", self.index)
        self._next = len(self.text) if end < 0 else end + 1

    def wrong(self, expected: str, *, too_big: bool = False) -> _Fault:
        """Return the fault of the present word."""
        got = repr(self.word[:40]) if self.word else "end"
        if self.word == "\r":
            got += ", as in lines that end in CRLF"
        return _Fault(self.index, expected, got, too_big=too_big)


def _after_blanks(text: str, index: int) -> int:
    while text[index : index + 1] in (" ", "\t"):
        index += 1
    return index


def _statements(tokens: _Tokens, settings: dict[str, Setting]) -> None:
    """Read from the next word to the end."""
    tokens.advance()
    while True:
        if tokens.kind == "name":
            _assignment(tokens, settings)
        if tokens.kind == "end":
            return
        tokens.take("newline", ";")


def _assignment(tokens: _Tokens, settings: dict[str, Setting]) -> None:
    name, index = tokens.take("name"), tokens.index
    added = tokens.take("=", "+=") == "+="
    start = tokens.index
    value = _value(tokens, 0)
    many = isinstance(value, list)
    parts: list[Value] = value if isinstance(value, list) else [value]
    before = settings.get(name)
    if added and before is not None:
        if before.many != many:
            raise _Fault(start, "list += list or string += string", "a mixture")
        before.parts.extend(parts)  # in place: a long file of += stays linear
        parts = before.parts
    settings[name] = Setting(index, many, added, parts)


def _value(tokens: _Tokens, depth: int) -> Value:
    if tokens.kind == "number":
        return Number(tokens.take("number"))
    if tokens.kind == "[":
        return _list(tokens, depth + 1)
    if tokens.kind != "string":
        raise tokens.wrong("a string, a number or a list")
    value = _dequoted(tokens)
    tokens.advance()
    return value


def _list(tokens: _Tokens, depth: int) -> list[Value]:
    if depth > MAX_DEPTH:
        raise tokens.wrong(f"at most {MAX_DEPTH} lists in lists", too_big=True)
    items: list[Value] = []
    tokens.take("[")
    tokens.skip_newlines()
    while tokens.kind != "]":
        items.append(_value(tokens, depth))
        tokens.skip_newlines()
        if tokens.kind != "]":
            tokens.take(",")
            tokens.skip_newlines()
    tokens.advance()
    return items


def _dequoted(tokens: _Tokens) -> str:
    def plain(match: re.Match[str]) -> str:
        letter = match["letter"]
        if letter is not None and letter not in _ESCAPES:
            index = tokens.index + 1 + match.start()
            raise _Fault(index, "an escape that xl understands", repr(match[0]))
        return "" if letter is None else _ESCAPES[letter]

    return _ESCAPE.sub(plain, tokens.word[1:-1])
