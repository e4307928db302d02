"""Which pages of a RAM file changed since they were written: found by digests, for lack of a log.

There is no log of what a plain QEMU and its guest write to a shared file.  So the file stays
mapped for the whole of a save, and each iteration digests all chunks that have data.  A chunk whose
digest is not that of what was written has changed; each of its pages has a digest of its own.

A guest that runs may write a value at any time, and soon the old one again.  So what is written
out is a copy, and the digests are of that copy, never of the memory it was made from: where they
agree, the image has what the guest has.  They are XXH3's of 64 bits.  Two pages have the same one
by chance in 1 of 10 ** 19 cases; a guest that makes such pages on purpose damages only itself.
"""

from __future__ import annotations

import mmap
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from xenqemu.formats.stream.libxc import ImageWriter, PageData
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.xx_hash import xxh3_64_digest as digest
from xenqemu.host.guest_memory import Progress
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import POPULATE_READ, WINDOW, page_entries, stretches, zero_pages
from xenqemu.host.memory.workers import in_threads
from xenqemu.lab.ram_layout import Extent, RamLayout, extents

CHUNK = 256 << 10
"""Bytes that one digest is of: a copy of so few stays in the cache of a processor."""

TASK = 64
"""Chunks that a thread takes at once."""

THREADS = min(4, os.cpu_count() or 1)
"""Threads that compute digests; a few are as fast as the memory is."""


class Written(NamedTuple):
    """What was last written of a chunk: its digest, and those of its pages, side by side."""

    whole: bytes
    pages: bytes

    @classmethod
    def of(cls, chunk: memoryview) -> Written:
        """Return the digests of a chunk that does not change meanwhile."""
        return cls(digest(chunk), _page_digests(chunk))

    def changed(self, now: bytes) -> list[int]:
        """Return the indices of the pages whose digests are different `now`."""
        pairs = zip(memoryview(self.pages).cast("Q"), memoryview(now).cast("Q"), strict=True)
        return [index for index, (before, after) in enumerate(pairs) if before != after]


class ChangingRam:
    """The memory of a guest that runs, as `ChangingPages`: its file, open and mapped."""

    def __init__(self, fd: int, mapped: mmap.mmap, layout: RamLayout, writer: ImageWriter) -> None:
        self._fd = fd
        self._mapped = mapped
        self._memory = memoryview(mapped)
        self._layout = layout
        self._writer = PageWriter(writer)
        self._written: dict[Extent, Written] = {}
        self._next = self._new()

    def write(self, progress: Progress) -> int:
        """Write the pages that changed of the chunks that did."""
        counts: list[int] = []
        total = _size(self._next)

        @contextmanager
        def worker() -> Iterator[Callable[[Sequence[Extent]], int]]:
            buffer = memoryview(bytearray(WINDOW))

            def write(chunks: Sequence[Extent]) -> int:
                counts.append(self._write_record(chunks, buffer))
                return _size(chunks)

            yield write

        groups = _groups(self._next, WINDOW // CHUNK)
        in_threads(groups, worker, lambda done: progress(done, total), self._writer.threads)
        self._writer.flush()
        return sum(counts)

    def find_changed(self, *, suspended: bool) -> int:  # noqa: ARG002 - ChangingPages'
        """Digest all that was written, and look for new data; this finds every change."""
        tasks = _groups(sorted(self._written), TASK)
        with ThreadPoolExecutor(THREADS) as pool:
            changed = dict(chain.from_iterable(pool.map(self._changed, tasks)))
        new = self._new()
        self._next = sorted([*changed, *new])
        return sum(changed.values()) + _size(new) // PAGE

    def _changed(self, chunks: Sequence[Extent]) -> list[tuple[Extent, int]]:
        """Return the chunks that changed, each with the number of its changed pages."""
        found = []
        for chunk in chunks:
            memory, written = self._memory[slice(*chunk)], self._written[chunk]
            if digest(memory) != written.whole:
                found.append((chunk, len(written.changed(_page_digests(memory)))))
        return found

    def _new(self) -> list[Extent]:
        """Return the chunks that have data and were never written, having mapped them."""
        found: dict[Extent, None] = {}
        for gap in self._gaps():
            for extent in extents(self._fd, *gap):
                start, end = self._layout.widened(extent, CHUNK)
                self._mapped.madvise(POPULATE_READ, start, end - start)
                found.update(dict.fromkeys(self._layout.cut((start, end), CHUNK)))
        return list(found)

    def _gaps(self) -> Iterator[Extent]:
        """Yield the extents between the chunks that were written."""
        after = 0
        for start, end in sorted(self._written):
            if after < start:
                yield after, start
            after = end
        if after < self._layout.size:
            yield after, self._layout.size

    def _write_record(self, chunks: Sequence[Extent], free: memoryview) -> int:
        """Write the changed pages of some chunks, copied to `free`; return their number."""
        entries = array("Q")
        pieces: list[memoryview] = []
        for chunk in chunks:
            copy = copied(self._memory[slice(*chunk)], free)
            free = free[len(copy) :]
            found, data = self._entries(chunk, copy)
            entries.extend(found)
            pieces.extend(data)
        self._writer.write(PageData(entries.tobytes()), pieces)
        return len(entries)

    def _entries(self, chunk: Extent, copy: memoryview) -> tuple[array[int], list[memoryview]]:
        """Return the entries for a chunk, and its pages that are in the record.

        A page of zeros is XALLOC only when it is written first: XALLOC has no contents, so it would
        not supersede a page that was written before.
        """
        now, before = Written.of(copy), self._written.get(chunk)
        self._written[chunk] = now
        pfn, count = self._layout.pfn(chunk[0]), len(copy) // PAGE
        if before is None:
            zeros = zero_pages(copy)
            return page_entries(pfn, count, zeros), list(stretches(copy, zeros))
        changed = before.changed(now.pages)
        pages = [copy[index * PAGE : (index + 1) * PAGE] for index in changed]
        return array("Q", [pfn + index for index in changed]), pages


def copied(memory: memoryview, buffer: memoryview) -> memoryview:
    """Copy memory to the start of `buffer` and return the copy, which does not change."""
    copy = buffer[: len(memory)]
    copy[:] = memory
    return copy


def _page_digests(chunk: memoryview) -> bytes:
    return b"".join([digest(chunk[at : at + PAGE]) for at in range(0, len(chunk), PAGE)])


def _groups(chunks: Sequence[Extent], size: int) -> Iterator[Sequence[Extent]]:
    """Yield the chunks by so many at once."""
    for at in range(0, len(chunks), size):
        yield chunks[at : at + size]


def _size(chunks: Sequence[Extent]) -> int:
    """Return the bytes of some chunks."""
    return sum(end - start for start, end in chunks)
