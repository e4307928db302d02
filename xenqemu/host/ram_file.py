"""Guest memory that is a file: QEMU's `memory-backend-file,share=on`, packed as a libxc image.

The file holds RAM without the gap that a PC leaves below 4 GiB for its devices::

    file offset   0 ………… below │ below ………… size
    guest         0 ………… below │ 4 GiB ……… 4 GiB + size - below

so that offsets below `below` are guest-physical addresses as they stand and the rest lies above
the gap.  Pages never written are holes of the file and cost nothing; pages of zeros are written
as XALLOC (populate, no data).  Pages go from the mapped file to the record in one writev, and
from the record to the file through one buffer, so that memory stays small however large a guest.
"""

from __future__ import annotations

import errno
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from xenqemu.errors import BadRecord, HypervisorError
from xenqemu.formats import libxc
from xenqemu.formats.libxc_order import X86_HVM
from xenqemu.formats.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.libxc_records import End, StaticDataEnd
from xenqemu.formats.page_data import XALLOC, PageData
from xenqemu.formats.sink import Sink
from xenqemu.formats.source import Source
from xenqemu.host.hypervisor import Progress
from xenqemu.host.pages import image_room, page_entries, stretches, zero_pages

WINDOW = 4 << 20
"""Bytes of RAM a PAGE_DATA record covers at most: 1024 pages, as libxc's own writer has it."""

ABOVE = 4 << 30
"""Guest-physical address where RAM goes on after the PCI hole."""

_POPULATE_READ = 22
"""MADV_POPULATE_READ of Linux 5.14: map what is there in one call, not a fault a page."""

XEN = (4, 17)
"""The Xen whose format this is; the domain header wants one, though none was there."""

IMAGE_VERSION = 3
"""Of the libxc images written here."""

Extent = tuple[int, int]
"""Bytes from … up to …, as offsets in the RAM file, page-aligned."""


class RamFile:
    """The memory of one guest: `size` bytes of RAM, `below` of them under the PCI hole."""

    def __init__(self, path: Path, size: int, below: int) -> None:
        if size % PAGE or below % PAGE or not 0 < below <= min(size, ABOVE):
            layout = f"{size} bytes of RAM, {below} of them under the PCI hole"
            raise HypervisorError(f"{path}: {layout}: not whole pages, or none there")
        self._path = path
        self._size = size
        self._below = below

    def room(self) -> int:
        """Return how many bytes the image has at most, from what was touched of the RAM so far."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            touched = sum(end - start for start, end in _extents(fd, self._size))
        finally:
            os.close(fd)
        return image_room(touched // PAGE)

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image: static end, pages, END; CPU state is the device model's here."""
        writer = libxc.Writer(out, libxc.DomainHeader(X86_HVM, *XEN), IMAGE_VERSION)
        writer.write(StaticDataEnd())
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for extents in _windows(fd, self._size, self._below):
                self._save_window(fd, extents, writer)
                progress(extents[-1][1], self._size)
        finally:
            os.close(fd)
        progress(self._size, self._size)
        writer.write(End())

    def load(self, source: Source, progress: Progress) -> None:
        """Fill the file, which must be fresh (all holes), from an image."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        loader = _Loader(fd, self, progress)
        try:
            for _record in libxc.read(source, loader.pages):
                pass
        finally:
            os.close(fd)

    def pfn(self, offset: int) -> int:
        """Return the guest-physical page number of the page at `offset` in the file."""
        return (offset if offset < self._below else offset - self._below + ABOVE) // PAGE

    def offset(self, pfn: int, pages: int, where: int) -> int:
        """Return where `pages` pages from `pfn` on lie in the file.

        Raises `BadRecord`, with `where` as its offset, if the guest has no RAM there.
        """
        start, size = pfn * PAGE, pages * PAGE
        if start + size <= self._below:
            return start
        if start >= ABOVE and start - ABOVE + size <= self._size - self._below:
            return start - ABOVE + self._below
        raise BadRecord("PAGE_DATA", where, f"pages of {self._size} bytes of RAM", f"pfn {pfn:#x}")

    @property
    def below(self) -> int:
        """Bytes of RAM under the PCI hole."""
        return self._below

    @property
    def size(self) -> int:
        """Bytes of RAM."""
        return self._size

    def _save_window(self, fd: int, extents: Sequence[Extent], writer: libxc.Writer) -> None:
        base = extents[0][0] - extents[0][0] % mmap.ALLOCATIONGRANULARITY
        length = extents[-1][1] - base
        window = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=base)
        entries = array("Q")
        buffers: list[memoryview] = []
        for start, end in extents:
            window.madvise(_POPULATE_READ, start - base, end - start)
            pages = memoryview(window)[start - base : end - base]
            zeros = zero_pages(pages)
            entries.extend(page_entries(self.pfn(start), len(pages) // PAGE, zeros))
            buffers.extend(stretches(pages, zeros))
        writer.pages(PageData.of(entries), buffers)


class _Loader:
    """Puts the pages of one image into the RAM file, counting them."""

    def __init__(self, fd: int, ram: RamFile, progress: Progress) -> None:
        self._fd = fd
        self._ram = ram
        self._progress = progress
        self._buffer = memoryview(bytearray(WINDOW))
        self._done = 0

    def pages(self, record: PageData, source: Source) -> None:
        """Take the data of one PAGE_DATA record from the source."""
        for run in record.runs():
            if run.has_data:
                self._run(run.pfn, run.pages, source)
            elif run.type == XALLOC:
                self._ram.offset(run.pfn, run.pages, source.offset)
        self._done += record.count * PAGE
        self._progress(min(self._done, self._ram.size), self._ram.size)

    def _run(self, pfn: int, count: int, source: Source) -> None:
        position = self._ram.offset(pfn, count, source.offset)
        end = position + count * PAGE
        while position < end:
            piece = self._buffer[: min(end - position, WINDOW)]
            source.into(piece, "PAGE_DATA pages")
            self._write(piece, position)
            position += len(piece)

    def _write(self, data: memoryview, position: int) -> None:
        while data:
            try:
                done = os.pwrite(self._fd, data, position)
            except OSError as error:
                raise HypervisorError(f"guest memory: {error.strerror}") from error
            data = data[done:]
            position += done


def _windows(fd: int, size: int, below: int) -> Iterator[list[Extent]]:
    """Give the extents that hold data, those of one aligned window at a time."""
    window: list[Extent] = []
    for start, end in _extents(fd, size):
        for piece in _cut(start, end, below):
            if window and window[0][0] // WINDOW != piece[0] // WINDOW:
                yield window
                window = []
            window.append(piece)
    if window:
        yield window


def _cut(start: int, end: int, below: int) -> Iterator[Extent]:
    """Cut an extent where windows end, and at the PCI hole."""
    while start < end:
        stop = min(end, start - start % WINDOW + WINDOW, below if start < below else end)
        yield start, stop
        start = stop


def _extents(fd: int, size: int) -> Iterator[Extent]:
    """Give the parts of the file that hold data, whole pages each, up to `size`."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        end = -(-os.lseek(fd, start, os.SEEK_HOLE) // PAGE) * PAGE
        yield start - start % PAGE, min(end, size)
