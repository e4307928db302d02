"""Changes of a stream by its pieces: their order, and what is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, takewhile
from random import Random
from typing import NamedTuple

from tests.fuzz import noise
from tests.fuzz.noise import Mutator
from xenqemu.errors import FormatError

MOST = 1 << 18
"""Bytes of an input at most; what repeats itself so far is slow if it is not linear."""


class Piece(NamedTuple):
    """Some bytes of a stream, and their kind."""

    kind: str
    data: bytes


Pieces = tuple[Piece, ...]


@dataclass(frozen=True)
class Language:
    """A format as a sequence of pieces.

    `split` cuts sound bytes into pieces that, joined, are the bytes again, and raises
    `FormatError` for others.  `edits` has a mutator for each kind of piece that has one of its
    own.  `pool` gives pieces of other samples.
    """

    split: Callable[[bytes], Pieces]
    edits: Mapping[str, Mutator]
    pool: Callable[[], Pieces]

    def changed(self, chance: Random, data: bytes) -> bytes:
        """Be a mutator; what is not sound any more is only bytes."""
        try:
            pieces = self.split(data)
        except FormatError:
            return noise.changed(chance, data)
        for _ in range(noise.few(chance)):
            pieces = chance.choice((self._edited, self._edited, self._moved))(chance, pieces)
            pieces = pieces[: _fitting(pieces)]
        return b"".join(piece.data for piece in pieces)

    def _edited(self, chance: Random, pieces: Pieces) -> Pieces:
        """Return the pieces with one of them changed."""
        if not pieces:
            return pieces
        at = chance.randrange(len(pieces))
        kind, data = pieces[at]
        edit = self.edits.get(kind, noise.changed)
        return (*pieces[:at], Piece(kind, edit(chance, data)), *pieces[at + 1 :])

    def _moved(self, chance: Random, pieces: Pieces) -> Pieces:
        """Return other pieces, or these in another order."""
        if chance.random() < 0.3:
            return noise.spliced(chance, pieces, self.pool())
        return noise.rearranged(chance, pieces)


def _fitting(pieces: Pieces) -> int:
    """Return how many of the pieces have so many bytes as an input may have."""
    sizes = accumulate(len(piece.data) for piece in pieces)
    return sum(1 for _ in takewhile(lambda size: size < MOST, sizes)) + 1


def pool(
    samples: Callable[[], Iterable[bytes]], split: Callable[[bytes], Pieces]
) -> Callable[[], Pieces]:
    """Return a function that returns the pieces of all samples, cut at its first call."""
    return cache(lambda: tuple(piece for sample in samples() for piece in split(sample)))


def one_of(*mutators: Mutator) -> Mutator:
    """Return a mutator that is each time one of these."""
    return lambda chance, data: chance.choice(mutators)(chance, data)
