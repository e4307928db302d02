"""Text of others as it is shown to people: in one line, visible, not long.

What peers, programs, QEMU and guests say may be of any length, and may have what would control a
terminal or look like another line of ours.
"""

from __future__ import annotations

MOST_SHOWN = 400
"""Characters of a text of others that an error repeats."""


def printable(text: str) -> str:
    """Return `text` with everything that is no visible character written as in Python."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shown(text: str, most: int = MOST_SHOWN) -> str:
    """Return `text` printable and, if that has more than `most` characters, its start and end."""
    start = printable(text[:most])
    if len(text) <= most and len(start) <= most:
        return start
    half = most // 2
    return f"{start[:half]} … {len(text)} characters … {printable(text[-half:])[-half:]}"
