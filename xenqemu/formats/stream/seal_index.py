"""The index in a seal: where each record is, and where the contents of each page.

Records and runs of pages are kept as tables of numbers, so that millions take little memory.
Where there are more than `MOST`, the rest is not listed: a reader finds its way by the records
themselves then.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xenqemu.errors import Damaged
from xenqemu.formats.stream.framing import HEADER as RECORD_HEADER
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.page_data import COUNT, PFN_MASK, XALLOC, PageData

RECORD = struct.Struct("<4Q")
RUN = struct.Struct("<3Q")
MOST = 1 << 18
"""Records, and runs of pages, that are listed; a guest of 64 GiB has 16384 records."""

MOST_NAMES = 1 << 10


class Listed(NamedTuple):
    """One record: `size` bytes at `offset`; `digest` is its XXH3-64, 0 for PAGE_DATA."""

    offset: int
    size: int
    name: str
    digest: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + self.size


class PageRun(NamedTuple):
    """`pages` pages from `pfn` on, whose contents are at `offset` of the file, 0 if it has none."""

    pfn: int
    pages: int
    offset: int

    def __str__(self) -> str:
        last = self.pfn + self.pages - 1
        return f"{self.pfn:#x}" if self.pages == 1 else f"{self.pfn:#x}-{last:#x}"


class Index:
    """Which record and which page is where in a save file; `devices` are parts of QEMU's state."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.devices: list[Listed] = []
        self._numbers: dict[str, int] = {}
        self._records = array("Q")
        self._runs = array("Q")  # those with data, by their offsets
        self._zeros = array("Q")

    @property
    def records(self) -> int:
        """How many records are listed."""
        return len(self._records) // 4

    @property
    def runs(self) -> int:
        """How many runs of pages are listed."""
        return (len(self._runs) + len(self._zeros)) // 3

    def add(self, name: str, offset: int, size: int, digest: int = 0) -> None:
        """List a record, which follows those that are listed."""
        if self.records < MOST:
            number = self._numbers.setdefault(name, len(self.names))
            if number == len(self.names):
                self.names.append(name)
            self._records.extend((offset, size, number, digest))

    def add_pages(self, pages: PageData, offset: int) -> None:
        """List the pages of the PAGE_DATA record at `offset`."""
        at = offset + RECORD_HEADER.size + COUNT.size + len(pages.table)
        for run in pages.runs():
            if self.runs == MOST:
                return
            if run.has_data:
                self._runs.extend((run.type | run.pfn, run.pages, at))
                at += run.pages * PAGE_SIZE
            elif run.type == XALLOC:
                self._zeros.extend((run.type | run.pfn, run.pages, 0))

    def within(self, start: int, end: int) -> Iterator[Listed]:
        """Yield the records that have bytes from `start` to before `end`."""
        places = range(self.records)
        first = bisect_right(places, start, key=lambda place: self._records[4 * place])
        for place in places[max(first - 1, 0) :]:
            found = self._record(place)
            if found.offset >= end:
                return
            if found.end > start:
                yield found

    def pages_within(self, start: int, end: int) -> Iterator[PageRun]:
        """Yield the runs of pages that have contents from `start` to before `end`."""
        places = range(len(self._runs) // 3)
        first = bisect_right(places, start, key=lambda place: self._runs[3 * place + 2])
        for place in places[max(first - 1, 0) :]:
            run = self._run(self._runs, place)
            if run.offset >= end:
                return
            if run.offset + run.pages * PAGE_SIZE > start:
                yield run

    def find(self, pfn: int) -> int | None:
        """Return where the last contents of a page are, 0 for zeros, None for a page not listed."""
        for runs in (self._runs, self._zeros):
            for place in reversed(range(len(runs) // 3)):
                run = self._run(runs, place)
                if run.pfn <= pfn < run.pfn + run.pages:
                    return run.offset + (pfn - run.pfn) * PAGE_SIZE if run.offset else 0
        return None

    def packed_records(self) -> bytes:
        """Return the table of records."""
        return self._records.tobytes()

    def packed_runs(self) -> bytes:
        """Return the table of runs: those with data, then those of zeros."""
        return self._runs.tobytes() + self._zeros.tobytes()

    @classmethod
    def parse(cls, records: bytes, runs: bytes, names: list[str], end: int, offset: int) -> Index:
        """Return the index of these tables; raise `Damaged` for places beyond `end`."""
        made = cls()
        made.names = names
        made._numbers = {name: number for number, name in enumerate(names)}
        made._records.frombytes(records)
        made._runs.frombytes(runs)
        starts = made._runs[2::3]
        data = next((place for place, start in enumerate(starts) if not start), len(starts))
        made._zeros, made._runs = made._runs[3 * data :], made._runs[: 3 * data]
        if not made._is_sound(end):
            raise Damaged("seal", offset, f"an index of {end} bytes", "places beyond them")
        return made

    def _is_sound(self, end: int) -> bool:
        """Return whether all places are in order, and before `end`."""
        if len(self.names) > MOST_NAMES or max(self._records[2::4], default=-1) >= len(self.names):
            return False
        sizes = [pages * PAGE_SIZE for pages in self._runs[1::3]]
        return (
            _in_order(self._records[::4], self._records[1::4], end)
            and _in_order(self._runs[2::3], sizes, end)
            and not any(self._zeros[2::3])
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Index) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # it grows

    def _record(self, place: int) -> Listed:
        offset, size, number, digest = self._records[4 * place : 4 * place + 4]
        return Listed(offset, size, self.names[number], digest)

    @staticmethod
    def _run(runs: array[int], place: int) -> PageRun:
        entry, pages, offset = runs[3 * place : 3 * place + 3]
        return PageRun(entry & PFN_MASK, pages, offset)


def _in_order(offsets: Sequence[int], sizes: Sequence[int], end: int) -> bool:
    """Return whether each of these begins where the one before has ended, or later."""
    after = 0
    for offset, size in zip(offsets, sizes, strict=True):
        if offset < after:
            return False
        after = offset + size
    return after <= end
