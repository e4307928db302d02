"""What a command prints: lines for people, JSON for programs, errors."""

from __future__ import annotations

import sys

from xenqemu.system.shown_text import printable

MIB = 1 << 20


def line(text: str = "") -> None:
    """Print a line, without what would control the terminal: its text may be from files."""
    sys.stdout.write(f"{printable(text)}\n")


def complain(*lines: str) -> None:
    """Print an error on the standard error; a line has no line breaks, whoever wrote its text."""
    shown = "\n".join(map(printable, lines))
    print(f"xenqemu: {shown}", file=sys.stderr)  # noqa: T201  this is the program's voice


def aside(text: str) -> None:
    """Print for people on the standard error, at once: the output may be the wire."""
    print(printable(text), file=sys.stderr, flush=True)  # noqa: T201  not for the output


def as_json(answer: object, indent: int | None = 2) -> None:
    """Print one JSON value, in one line without `indent`."""
    import json  # noqa: PLC0415  most answers are for people

    json.dump(answer, sys.stdout, indent=indent)
    line()
