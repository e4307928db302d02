"""Pages of a guest on their way into an image, from several threads.

Each window of guest memory (4 MiB) is a PAGE_DATA record, as in what libxc writes.  Where pages are
aligned (`formats.stream.layout`), a record has some KiB of its own.  So windows that have few pages
with data, or none but pages of zeros, share records: a guest that has touched little of its memory
pays little.  Pages of zeros stand in the table where they are in memory, since Xen 4.21 and later
gives a guest a large page again for 512 pages in a row, zeros or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.libxc import ImageWriter
from xenqemu.formats.stream.page_data import ENTRY, PageData
from xenqemu.host.memory.pages import BATCH, WINDOW
from xenqemu.host.memory.workers import workers

FEW = WINDOW // 4
"""Bytes of pages from which on a window has a record of its own: 4 KiB are 0.4 % of that."""

MOST_ENTRIES = 32 * BATCH - 2
"""Entries of a shared record: 256 KiB, what a hypercall of a kernel before Linux 4.20 can take."""


class PageWriter:
    """Writes pages into an image; `flush` at the end, and before any page is written again."""

    def __init__(self, writer: ImageWriter) -> None:
        self._writer = writer
        self._lock = Lock()
        self._shared = _Shared()

    @property
    def threads(self) -> int:
        """How many threads should write: one where the image has no places for more."""
        return workers() if self._writer.has_places else 1

    def write(self, table: PageData, buffers: Sequence[Buffer]) -> None:
        """Write the pages of a window, nothing if there are none; from any thread.

        `buffers` may be used again afterwards.
        """
        if not self._writer.is_aligned or table.data_size >= FEW:
            self._write(table, buffers)
            return
        with self._lock:
            full = None
            if not self._shared.has_space(table):
                full, self._shared = self._shared, _Shared()
            self._shared.add(table, buffers)
        if full:
            self._write(*full.record())

    def flush(self) -> None:
        """Write what is still kept."""
        with self._lock:
            full, self._shared = self._shared, _Shared()
        self._write(*full.record())

    def _write(self, table: PageData, buffers: Sequence[Buffer]) -> None:
        if table.count:
            with self._lock:
                write = self._writer.placed(table, buffers)
            write()


class _Shared:
    """A record that several windows share."""

    def __init__(self) -> None:
        self._table = bytearray()
        self._pages = bytearray()

    def has_space(self, table: PageData) -> bool:
        entries = (len(self._table) + len(table.table)) // ENTRY.size
        return entries <= MOST_ENTRIES and len(self._pages) + table.data_size <= WINDOW

    def add(self, table: PageData, buffers: Sequence[Buffer]) -> None:
        self._table += table.table
        for buffer in buffers:
            self._pages += buffer

    def record(self) -> tuple[PageData, Sequence[Buffer]]:
        return PageData(bytes(self._table)), [self._pages]
