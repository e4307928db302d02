"""Drop the superseded pages of an image: those that a live save writes again later.

It takes two walks.  The first finds which PAGE_DATA record has the last contents of each page; in
the second, each record keeps only the pages that no later one has::

    walk 1    0: a b c d    1: b d    2: d          last:  a 0  b 1  c 0  d 2
    walk 2    0: a c        1: b      2: d

An entry without contents (XALLOC) stays only if no record has contents of its page.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import groupby

from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.page_data import ENTRY, WHERE, XALLOC, PageData, Run, skip
from xenqemu.formats.stream.source import Source

BLOCK = 1024
"""Pages whose records are in one array."""


class Latest:
    """Which record has the last contents of each page; the records are counted from 1."""

    def __init__(self) -> None:
        self._blocks: dict[int, array[int]] = {}
        self._seen = 0
        self._left = 0

    def note(self, table: PageData, source: Source) -> None:
        """Take the next record of the first walk, and skip its pages."""
        self._seen += 1
        for run in table.runs():
            if run.has_data:
                for first, count in _parts(run):
                    block = self._blocks.setdefault(first // BLOCK, array("I", bytes(4 * BLOCK)))
                    start = first % BLOCK
                    block[start : start + count] = array("I", [self._seen]) * count
        skip(table, source)

    def left(self, table: PageData, source: Source) -> tuple[PageData, list[memoryview]]:
        """Take the next record of the second walk; return what is left, entries and pages."""
        self._left += 1
        pages = memoryview(source.exact(table.data_size, WHERE))
        entries, buffers = [], []
        at = data = 0
        for run in table.runs():
            for kept, group in groupby(self._kept(run)):
                count = len(list(group))
                size = count * PAGE_SIZE * run.has_data
                if kept:
                    entries.append(table.table[at : at + count * ENTRY.size])
                    buffers.append(pages[data : data + size])
                at, data = at + count * ENTRY.size, data + size
        return PageData(b"".join(entries)), [buffer for buffer in buffers if buffer]

    def _kept(self, run: Run) -> Iterator[bool]:
        """Yield, for each page of a run of the present record, whether it stays."""
        last = self._left if run.has_data else 0
        for first, count in _parts(run):
            if run.has_data or run.type == XALLOC:
                block = self._blocks.get(first // BLOCK)
                start = first % BLOCK
                for record in block[start : start + count] if block else [0] * count:
                    yield record == last
            else:
                yield from [True] * count


def _parts(run: Run) -> Iterator[tuple[int, int]]:
    """Cut a run where blocks end, into (first page, pages)."""
    first, end = run.pfn, run.pfn + run.pages
    while first < end:
        count = min(end, first - first % BLOCK + BLOCK) - first
        yield first, count
        first += count
