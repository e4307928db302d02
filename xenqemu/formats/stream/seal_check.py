"""Comparing a save file with its seal, and naming what is damaged.

A piece whose digest is another one is damaged somewhere.  Of PAGE_DATA that is all which is known:
the place has the pages of that record.  Other records have digests of their own in the index, and
so have the devices in QEMU's state: the place is those that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO

from xenqemu.errors import Damaged
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.pieces import Piece, hash_maker
from xenqemu.formats.stream.record_scan import PAGES
from xenqemu.formats.stream.seal import Seal
from xenqemu.formats.stream.seal_index import Listed, PageRun
from xenqemu.formats.stream.source import CHUNK, parts_at
from xenqemu.formats.xx_hash import xxh3_64
from xenqemu.frozen import Frozen

MOST_RUNS = 8
"""Runs of pages that are named in a sentence."""

MOST_PLACES = 256
"""Damaged pieces that are looked into; of all others only the number is said."""


class Place(Frozen):
    """Bytes from `start` to before `end` that are not as they were sealed, and whose they are."""

    start: int
    end: int
    record: str
    pages: tuple[PageRun, ...] = ()
    device: str = ""

    def __str__(self) -> str:
        if self.device:
            return f"{self.record}, device {self.device}"
        if not self.pages:
            return self.record
        words = ", ".join(map(str, self.pages[:MOST_RUNS]))
        rest = len(self.pages) - MOST_RUNS
        return f"{self.record}, pfns {words}{f' and {rest} runs more' if rest > 0 else ''}"


class Comparison:
    """Compares a save file that is read in order with its seal."""

    def __init__(self, seal: Seal, key: bytes | None) -> None:
        self._seal = seal
        self._new = hash_maker(key)
        self._next = 0
        self._hash = self._new()
        self._offset = 0

    def follow(self, data: Buffer) -> None:
        """Take the next bytes; raise `Damaged` at the end of a piece that is not as sealed."""
        rest = memoryview(data).cast("B")
        while rest and self._next < len(self._seal.pieces):
            piece = self._seal.pieces[self._next]
            part = rest[: piece.end - self._offset]
            self._hash.update(part)
            self._offset += len(part)
            rest = rest[len(part) :]
            if self._offset == piece.end:
                if self._hash.digest() != piece.digest:
                    raise damage(self._seal, [piece])
                self._hash = self._new()
                self._next += 1

    def require_complete(self) -> None:
        """Raise `Damaged` unless all pieces have passed."""
        if self._next < len(self._seal.pieces):
            raise damage(self._seal, self._seal.pieces[self._next :])


def check_file(
    file: BinaryIO,
    seal: Seal,
    key: bytes | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> None:
    """Compare a regular file with its seal; raise `Damaged` with all places, or `OSError`.

    `progress` is called before each piece with the bytes that are done, and all: it raises where
    somebody wants an end.  The file's own place does not change.
    """
    buffer = memoryview(bytearray(CHUNK))
    broken = []
    for piece in seal.pieces:
        progress(piece.start, seal.end)
        made = hash_maker(key)()
        for part in parts_at(file, piece.start, piece.end, buffer):
            made.update(part)
        if made.digest() != piece.digest:
            broken.append(piece)
    if broken:
        raise damage(seal, broken, file)


def differing(seal: Seal, found: Sequence[Piece]) -> list[Piece]:
    """Return the pieces of a seal that are not among those that were found."""
    there = set(found)
    return [piece for piece in seal.pieces if piece not in there]


def damage(seal: Seal, broken: Sequence[Piece], file: BinaryIO | None = None) -> Damaged:
    """Return the error for pieces that differ; of a `file` the places in them are looked for."""
    named = broken[:MOST_PLACES]
    places = [place for piece in named for place in _places(seal, piece, file)]
    first = places[0]
    more = len(places) - 1 + len(broken) - len(named)
    rest = f" (and {more} places more)" if more else ""
    expected = "the bytes that were sealed"
    return Damaged(f"{first}{rest}", first.start, expected, "others", places)


def place_fields(place: Place) -> dict[str, Any]:
    """Return a place for a program: offsets in bytes, pages as first pfn and number."""
    return {
        "offset": place.start,
        "size": place.end - place.start,
        "record": place.record,
        "device": place.device or None,
        "pages": [{"pfn": run.pfn, "count": run.pages} for run in place.pages],
    }


def _places(seal: Seal, piece: Piece, file: BinaryIO | None) -> Iterator[Place]:
    """Yield what of a piece is damaged: one place at least."""
    found = False
    records = list(seal.index.within(piece.start, piece.end))
    for record in records:
        if record.name != PAGES and file and record.digest == _digest(file, *_ends(record)):
            continue
        found = True
        yield from _within(seal, record, piece, file)
    if not found:
        names = ", ".join(record.name for record in records[:3])
        yield Place(piece.start, piece.end, f"one of {names}" if names else "a record")


def _within(seal: Seal, record: Listed, piece: Piece, file: BinaryIO | None) -> Iterator[Place]:
    start, end = max(record.offset, piece.start), min(record.end, piece.end)
    if record.name == PAGES:
        runs = tuple(seal.index.pages_within(start, end))
        yield Place(start, end, record.name, runs)
        return
    found = False
    for device in seal.index.devices if file else ():
        inside = record.offset <= device.offset < record.end
        if file and inside and _digest(file, *_ends(device)) != device.digest:
            found = True
            yield Place(*_ends(device), record.name, device=device.name)
    if not found:
        yield Place(start, end, record.name)


def record_digest(file: BinaryIO, start: int, end: int) -> int:
    """Return the XXH3-64 of a part of a regular file, as the index has it."""
    return _digest(file, start, end)


def _ends(record: Listed) -> tuple[int, int]:
    return record.offset, record.end


def _digest(file: BinaryIO, start: int, end: int) -> int:
    made = xxh3_64()
    for part in parts_at(file, start, end, memoryview(bytearray(min(CHUNK, max(end - start, 1))))):
        made.update(part)
    return made.intdigest()
