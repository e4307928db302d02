"""What programs say, for errors."""

from __future__ import annotations

import os
from pathlib import Path

LAST_WORDS = 8
"""Lines that an error repeats of what a program said."""

WORDS = 8192
"""Bytes at the start of what a program says, and at its end, that are kept for errors."""


class Words:
    """What a program says, as much of it as errors need: it may talk for ever."""

    def __init__(self) -> None:
        self.text = b""

    def keep(self, piece: bytes) -> None:
        """Add what it says next."""
        text = self.text + piece
        self.text = text if len(text) <= 2 * WORDS else text[:WORDS] + b"\n" + text[-WORDS:]

    def __str__(self) -> str:
        """The last lines in one."""
        return last_words(self.text)


def last_words(text: bytes) -> str:
    """Return the last lines of what a program said, in one."""
    said = [line.strip() for line in text.decode(errors="backslashreplace").splitlines()]
    return "; ".join([line for line in said if line][-LAST_WORDS:]) or "no reason given"


def tail(log: Path) -> bytes:
    """Return the end of what programs have said into a file; raise `OSError`."""
    with log.open("rb") as file:
        file.seek(-min(WORDS, os.fstat(file.fileno()).st_size), os.SEEK_END)
        return file.read(WORDS)
