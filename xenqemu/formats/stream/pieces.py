"""Digests of the bytes of a save file, piece by piece, as they are written or read.

The pieces of a file lie one behind the other.  Where each ends can be told while the file passes:
before and behind each PAGE_DATA record, and `PIECE` bytes behind its own start::

    xl header … LIBXC_CONTEXT … │ PAGE_DATA │ PAGE_DATA … PIECE │ its rest │ TSC_INFO … END

A digest without a key is XXH3-128: it finds damage, at many times the speed of memory's way to a
file.  With a key it is BLAKE2b of 32 bytes: nobody without the key can make it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from xenqemu.formats.stream.buffers import Buffer

PIECE = 4 << 20
"""Most bytes of a piece; a PAGE_DATA record of 1022 pages has as many."""

MOST_PIECES = 1 << 18
"""Pieces of a file that is sealed: 1 TiB, or half of it where pages lie as xl writes them."""

KEYED_SIZE = 32
"""Bytes of a BLAKE2b digest."""


class Hash(Protocol):
    """A digest being made; `update` leaves other threads running."""

    def update(self, data: Buffer, /) -> None:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the digest of all bytes so far."""


class Piece(NamedTuple):
    """The bytes of a file from `start` to before `end`, and their digest."""

    start: int
    end: int
    digest: bytes


def hash_maker(key: bytes | None) -> Callable[[], Hash]:
    """Return what begins a digest: XXH3-128, or BLAKE2b with a `key` of 1 to 64 bytes."""
    if key is None:
        from xenqemu.formats.xx_hash import xxh3_128  # noqa: PLC0415  what xl starts digests nothing

        return xxh3_128
    import hashlib  # noqa: PLC0415

    return lambda: hashlib.blake2b(key=key, digest_size=KEYED_SIZE)


class Older(Protocol):
    """A file that may have the same pieces as the one that is written."""

    def share(self, pieces: Sequence[Piece], out: int, /) -> bool:
        """Have the file `out` share these pieces, one behind the other, and return whether it does.

        Any thread may ask.
        """


class Pieces:
    """Collects the pieces of one file, from several threads; `older` may have some of them.

    Once they are `too_many` for a seal, none is kept.
    """

    older: Older | None = None
    too_many = False

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key
        self._new = hash_maker(key)
        self._found: list[Piece] = []
        self._later: list[tuple[int, int]] = []
        self._shared: list[Piece] = []
        self._hash: Hash | None = None
        self._start = self._end = 0

    def add(self, start: int, buffers: Iterable[Buffer]) -> list[Piece]:
        """Take bytes that are at `start`, where a piece begins; in any order, from any thread.

        Returns their pieces.
        """
        pieces = Pieces(self._key)
        pieces.follow(start, buffers)
        found = pieces.in_order()
        self._keep(found)
        return found

    def share(self, start: int, buffers: Iterable[Buffer], out: int) -> bool:
        """Take bytes as `add`; return whether the file `out` shares them with an older one now."""
        found = self.add(start, buffers)
        if self.older is None or not self.older.share(found, out):
            return False
        self._shared.extend(found)
        return True

    @property
    def shared(self) -> list[Piece]:
        """The pieces that are shared with an older file, by their digests."""
        return self._shared

    def add_later(self, start: int, end: int) -> None:
        """Note bytes, from where a piece begins, that are to be read back and given to `add`."""
        self._later.append((start, end))

    def take_later(self) -> list[tuple[int, int]]:
        """Return what was noted so, and forget it."""
        later, self._later = self._later, []
        return later

    def follow(self, offset: int, buffers: Iterable[Buffer]) -> None:
        """Take bytes that pass in order, the first of them at `offset`; for one thread."""
        if self._hash is None or offset != self._end:
            self.cut()
            self._start = self._end = offset
        for buffer in buffers:
            rest = memoryview(buffer).cast("B")
            while rest:
                if self._end - self._start == PIECE:
                    self.cut()
                    self._start = self._end
                if self._hash is None:
                    self._hash = self._new()
                part = rest[: self._start + PIECE - self._end]
                self._hash.update(part)
                self._end += len(part)
                rest = rest[len(part) :]

    def cut(self) -> None:
        """End the piece that passes; what follows begins another one."""
        if self._hash is not None and self._end > self._start:
            self._keep([Piece(self._start, self._end, self._hash.digest())])
        self._hash = None

    def _keep(self, found: Sequence[Piece]) -> None:
        if not self.too_many:
            self._found.extend(found)  # which is one step for all threads
            if len(self._found) > MOST_PIECES:
                self.too_many, self._found = True, []

    def in_order(self) -> list[Piece]:
        """Return all pieces by their place in the file; the piece that passes is ended."""
        self.cut()
        return sorted(self._found)
