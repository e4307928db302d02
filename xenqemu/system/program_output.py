"""What programs print, kept for errors."""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.shown_text import shown

LAST_LINES = 8
"""Lines of a program's output that an error repeats."""

MOST_WORDS = 2000
"""Characters of them at most."""

KEPT_BYTES = 8192
"""Bytes kept of the start of a program's output, and as many of its end."""


class OutputTail:
    """The start and the end of a program's output: it may print for ever."""

    def __init__(self) -> None:
        self.text = b""

    def keep(self, piece: bytes) -> None:
        """Add the next piece."""
        text = self.text + piece
        self.text = (
            text if len(text) <= 2 * KEPT_BYTES else text[:KEPT_BYTES] + b"\n" + text[-KEPT_BYTES:]
        )

    def __str__(self) -> str:
        """The last lines, joined to one."""
        return last_lines(self.text)


def last_lines(text: bytes) -> str:
    """Return the last lines of a program's output, joined to one."""
    words = text.decode(errors="backslashreplace").expandtabs()
    said = [line.strip() for line in words.splitlines()]
    shown_lines = shown("; ".join([line for line in said if line][-LAST_LINES:]), MOST_WORDS)
    return shown_lines or "no reason given"


def tail(log: Path) -> bytes:
    """Return the end of a log file; raise `OSError`."""
    with log.open("rb") as file:
        file.seek(-min(KEPT_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read(KEPT_BYTES)
