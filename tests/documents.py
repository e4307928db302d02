"""What the documents show: their blocks, the command lines in these, and what each is to print."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xenqemu.cli.parser import parser
from xenqemu.errors import UsageError

ROOT = Path(__file__).parents[1]

RUN = "console"
"""The fence of blocks that are run in the lab."""

XEN = "console xen"
"""The fence of blocks that take a Xen host."""

SHELL = (RUN, XEN, "sh", "indented")
"""Blocks of lines for a shell; fences of other names hold drawings, settings, programs."""

_SPACES = " *"
_UNIT = r"(?: (?:bytes|[KMG]iB|ms|s)\b)?"

_BEFORE = re.compile(r"[A-Za-z_]\w*=.*|if|while|until|then|do|else|!|sudo|time|exec")
"""Words that stand before a command."""


@dataclass(frozen=True)
class Block:
    """Lines of a document that stand as they are; `line` is the number of the first, from 1."""

    document: str
    line: int
    kind: str
    lines: tuple[str, ...]

    @property
    def steps(self) -> Iterator[tuple[int, str, list[str]]]:
        """Yield each command of a block of a session: its line, what is typed, what is printed."""
        typed, printed, begin = "", list[str](), 0
        for number, line in enumerate(self.lines, self.line):
            if line.startswith("$ "):
                if typed:
                    yield begin, typed, printed
                typed, printed, begin = line[2:], [], number
            elif line.startswith("> ") and not printed:
                typed += f"\n{line[2:]}"
            else:
                printed.append(line)
        if typed:
            yield begin, typed, printed

    @property
    def typed(self) -> Iterator[tuple[int, str]]:
        """Yield each line for a shell with its number; those that go on behind \\ are one."""
        if self.kind in (RUN, XEN):
            for number, typed, _printed in self.steps:
                yield number, typed.replace("\\\n", " ")
            return
        text, begin = "", 0
        for number, line in enumerate(self.lines, self.line):
            begin = begin if text else number
            text += line
            if text.endswith("\\"):
                text = text[:-1]
            else:
                yield begin, text
                text = ""


def documents() -> list[Path]:
    """Return all documents for people in the checkout."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(file: Path) -> Iterator[Block]:
    """Yield the blocks of a document, fenced and indented."""
    name = str(file.relative_to(ROOT))
    kind, begin, kept = "", 0, list[str]()
    for number, line in enumerate([*file.read_text().splitlines(), ""], 1):
        fence = re.fullmatch(r"```(.*)", line)
        if fence and kind not in ("", "indented"):
            yield Block(name, begin, kind, tuple(kept))
            kind, kept = "", []
        elif fence:
            kind, begin = fence[1] or "drawing", number + 1
        elif kind in ("", "indented") and line.startswith("    "):
            begin = begin if kind else number
            kind = "indented"
            kept.append(line[4:])
        elif kind == "indented":
            yield Block(name, begin, kind, tuple(kept))
            kind, kept = "", []
        elif kind:
            kept.append(line)


def spans(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the commands within sentences, with the number of their line, but for usages."""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        for words in re.findall(r"`(xenqemu [^`]*)`", line):
            if not re.search(r"[\[|…\\]", words):
                yield number, words


def calls(line: str) -> Iterator[list[str]]:
    """Yield the arguments of each call of xenqemu in a line for a shell."""
    if "xenqemu" not in line:  # prose perhaps, with quotation marks of its own
        return
    lexer = shlex.shlex(re.sub(r"(?<=\s)\d(?=[<>])", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list[str]()
    tokens = [*lexer, ";"]
    for before, token in zip(["", *tokens], tokens, strict=False):
        if re.fullmatch("[<>&]*[<>][<>&]*", before) or re.fullmatch("[<>&]*[<>][<>&]*", token):
            continue  # a redirection, and its file
        if re.fullmatch("[();|&]+", token):
            yield from _call(words)
            words = []
        else:
            words.append(token)


def _call(words: list[str]) -> Iterator[list[str]]:
    while words and _BEFORE.fullmatch(words[0]):
        words = words[1:]
    if words and Path(words[0]).name == "xenqemu":
        yield words[1:]
        for word in words[1:]:  # a command for --to or -s
            if " " in word:
                yield from calls(word)


def refusal(line: str) -> str:
    """Return what the program says against the calls in a line; "" if it takes them."""
    for words in calls(line):
        try:
            parser().parse_args(words, argparse.Namespace())
        except UsageError as error:
            return f"{shlex.join(words)}: {str(error).splitlines()[0]}"
        except SystemExit:  # --help and --version
            continue
    return ""


def printed_as(shown: list[str]) -> re.Pattern[str]:
    """Return what a command has to print where a document shows `shown`.

    Numbers may be others, and in another unit; "…" stands for anything within a line, and alone for
    any lines.
    """
    return re.compile("".join(r"(?:.*\n)*" if line == "…" else _line(line) for line in shown))


def _line(shown: str) -> str:
    parts = []
    for text in re.split(rf"({_SPACES}\d[\d.]*{_UNIT}|…)", shown):
        if text == "…":
            parts.append(".*")
        elif re.fullmatch(rf"{_SPACES}\d[\d.]*{_UNIT}", text):
            before = " +" if text.startswith(" ") else ""
            parts.append(rf"{before}\d[\d.]*(?:{_UNIT})")
        else:
            parts.append(re.escape(text))
    return "".join(parts) + r"\n"
