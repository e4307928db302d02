"""Changes of bytes, and of sequences of anything, whatever their meaning.

Each is a pure function of chance and of what it changes; that may be empty.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

S = TypeVar("S", bytes, tuple, list)
Mutator = Callable[[Random, bytes], bytes]

SPECIAL_BYTES = bytes([0, 1, 2, 3, 4, 5, 0x0A, 0x20, 0x22, 0x2C, 0x7E, 0x7F, 0x80, 0xFE, 0xFF])
"""What begins or ends something in one of the formats, and the ends of the ranges of numbers."""

NUMBERS = (0, 1, 2, 3, 8, 16, *(1 << bits for bits in (7, 8, 12, 15, 16, 20, 24, 31, 32, 52, 63)))
HEAD = 16

TIMES = (2, 2, 2, 3, 5, 20, 600, 100_000)
MOST_BYTES, MOST_PARTS = 1 << 17, 1 << 13
"""How often a part is repeated, and how many elements this may add."""


def few(chance: Random) -> int:
    """Return how many changes to make: mostly one."""
    return chance.choice((1, 1, 1, 1, 2, 2, 3, 6))


def span(chance: Random, what: S) -> tuple[int, int]:
    """Return the bounds of a part, short more often than long."""
    start = chance.randint(0, len(what))
    size = chance.choice((1, 1, 1, 2, 4, 8, chance.randint(0, 100), len(what)))
    return start, min(start + size, len(what))


def cut(chance: Random, what: S) -> S:
    """Return the beginning."""
    return what[: chance.randint(0, len(what))]


def dropped(chance: Random, what: S) -> S:
    """Return all but a part."""
    start, end = span(chance, what)
    return what[:start] + what[end:]


def repeated(chance: Random, what: S) -> S:
    """Return it with a part twice or oftener."""
    start, end = span(chance, what)
    most = MOST_BYTES if isinstance(what, bytes) else MOST_PARTS
    times = min(chance.choice(TIMES), 1 + most // max(end - start, 1))
    return what[:start] + what[start:end] * times + what[end:]


def swapped(chance: Random, what: S) -> S:
    """Return it with two parts in each other's place."""
    (a, b), (c, d) = sorted([span(chance, what), span(chance, what)])
    c = max(b, c)
    d = max(c, d)
    return what[:a] + what[c:d] + what[b:c] + what[a:b] + what[d:]


def spliced(chance: Random, what: S, other: S) -> S:
    """Return it with a part of another in it, put in or in a part's place."""
    start, end = span(chance, what)
    first, last = span(chance, other)
    return what[:start] + other[first:last] + what[chance.choice((start, end)) :]


def rearranged(chance: Random, what: S) -> S:
    """Return it with its parts in another order or number."""
    return chance.choice((cut, dropped, repeated, swapped))(chance, what)


def flipped(chance: Random, data: bytes) -> bytes:
    """Return the bytes with one bit changed."""
    return _overwritten(data, _place(chance, data, 1), lambda old: old ^ 1 << chance.randrange(8))


def special(chance: Random, data: bytes) -> bytes:
    """Return the bytes with some of them special ones, or random ones."""
    start, end = span(chance, data)
    end = min(end, start + 64)
    if chance.random() < 0.5:
        return data[:start] + chance.randbytes(end - start) + data[end:]
    return data[:start] + bytes(chance.choices(SPECIAL_BYTES, k=end - start)) + data[end:]


def number(chance: Random, data: bytes) -> bytes:
    """Return the bytes with one number in them at a bound of its range, or near what it was."""
    width = chance.choice((1, 2, 4, 4, 4, 8))
    order = chance.choice(("little", "little", "big"))
    start = _place(chance, data, width)
    old = int.from_bytes(data[start : start + width], order)
    new = boundary(chance, 8 * width, old)
    return data[:start] + new.to_bytes(width, order) + data[start + width :]


def head(chance: Random, data: bytes) -> bytes:
    """Return the bytes with a number changed where most records have type, length and count."""
    return number(chance, data[:HEAD]) + data[HEAD:]


def boundary(chance: Random, bits: int, old: int) -> int:
    """Return a number of so many bits that is likely to be at the edge of what is allowed."""
    new = chance.choice((*NUMBERS, old, old * 2, old // 2, -1, -2, 1 << bits - 1))
    return (new + chance.choice((-1, 0, 0, 1, 8))) % (1 << bits)


def changed(chance: Random, data: bytes) -> bytes:
    """Return the bytes with any one of these changes."""
    return chance.choice((flipped, special, special, number, number, rearranged))(chance, data)


def _place(chance: Random, data: bytes, width: int) -> int:
    """Return an offset, more often than not one that a field of this width may have."""
    start = chance.randint(0, max(len(data) - width, 0))
    return start - start % width if chance.random() < 0.7 else start


def _overwritten(data: bytes, at: int, new: Callable[[int], int]) -> bytes:
    return data[:at] + bytes(map(new, data[at : at + 1])) + data[at + 1 :]
