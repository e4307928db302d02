"""Guest memory that is a file: QEMU's `memory-backend-file,share=on`, packed as a libxc image.

Pages never written are holes of the file and cost nothing; pages of zeros are written as XALLOC
(populate, no data).  Pages go from the mapped file to the save file in one writev, and from the
save file to the RAM file through one buffer, so that little memory is used however large a guest.
"""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.libxc_order import X86_HVM
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.stream.libxc_records import End, StaticDataEnd
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import Live, Progress
from xenqemu.host.memory.live import write_live
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import (
    POPULATE_READ,
    WINDOW,
    image_space,
    in_all,
    page_entries,
    stretches,
    zero_pages,
)
from xenqemu.host.memory.workers import WriteBehind, in_threads, workers
from xenqemu.lab.ram_layout import Extent, RamLayout, extents
from xenqemu.lab.shared_pages import save_shared, share
from xenqemu.system.reflink import can_clone

BUFFER = 1 << 20
"""Bytes that are read from a save file at once."""

XEN = (4, 17)
"""The Xen whose format this is: the domain header has a field for it."""

Step = tuple[list[Extent], int]
"""The extents of one window, and how far it brings the save, in bytes of the file."""

IMAGE_VERSION = 3
"""Of the libxc images written here."""


PAGES = "PAGE_DATA pages"


class RamFile:
    """The memory of one guest: `size` bytes of RAM, `below` of them under the PCI hole."""

    def __init__(self, path: Path, size: int, below: int) -> None:
        self.path = path
        self.layout = RamLayout(size, below)

    def space(self, file: int | None = None, /) -> int:
        """Return how many bytes the image takes at most, from what was touched of the RAM so far.

        What it would share with the RAM file takes nothing.
        """
        with self._opened(os.O_RDONLY) as fd:
            touched = sum(end - start for start, end in extents(fd, 0, self.layout.size)) // PAGE
            shared = file is not None and can_clone(fd, file)
        return image_space(0, touched) if shared else image_space(touched)

    def counted_space(self, progress: Progress) -> int:
        """Return the same after a look at each page: those of zeros take eight bytes."""
        count = zeros = 0
        with self._opened(os.O_RDONLY) as fd:
            for window in _windows(fd, self.layout):
                for pages in _mapped(fd, window):
                    count += len(pages) // PAGE
                    zeros += in_all(zero_pages(pages))
                progress(window[-1][1], self.layout.size)
        return image_space(count - zeros, zeros)

    def size_before_pages(self) -> int:
        """Return the bytes of an image before its pages."""
        return size_before_pages(self.layout)

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image: static end, pages, END; CPU state is the device model's here."""
        writer = begun(out, self.layout)
        size = self.layout.size
        with self._opened(os.O_RDONLY) as fd:
            if writer.is_aligned and out.has_places and can_clone(fd, out.descriptor):
                save_shared(fd, self.layout, writer, out.descriptor, progress)
            else:
                self._save_copied(fd, writer, progress)
        progress(size, size)
        writer.write(End())

    def _save_copied(self, fd: int, writer: libxc.ImageWriter, progress: Progress) -> None:
        pages, size = PageWriter(writer), self.layout.size

        @contextlib.contextmanager
        def worker() -> Iterator[Callable[[Step], int]]:
            yield lambda step: self._save_window(fd, step, pages)

        steps = _steps(_windows(fd, self.layout))
        in_threads(steps, worker, lambda done: progress(done, size), pages.threads)
        pages.flush()

    def can_log_dirty(self) -> bool:
        """Return True: changes are found by digests."""
        return True

    def save_live(self, out: Sink, progress: Progress, live: Live) -> None:
        """Write the image of a guest that runs until `live.suspend`."""
        from xenqemu.lab.dirty_pages import ChangingRam  # noqa: PLC0415  loads digests and threads

        writer = begun(out, self.layout)
        with self._opened(os.O_RDONLY) as fd:
            pages = ChangingRam(fd, self._mapped, self.layout, writer)
            write_live(pages, out, progress, live)
        writer.write(End())

    def load(self, source: Source, progress: Progress) -> None:
        """Fill the file, which must be fresh (all holes), from an image."""
        with self._opened(os.O_WRONLY) as fd:
            writing = partial(_write, fd)
            with WriteBehind(writing, BUFFER, threaded=workers() > 1) as buffers:
                loader = _Loader(fd, buffers, self.layout, progress)
                for _record in libxc.read(source, loader.pages):
                    pass

    @cached_property
    def _mapped(self) -> mmap.mmap:
        """The whole file, mapped for as long as this object is kept.

        Unmapping it takes a quarter of the time of reading it: not while a guest is suspended.
        """
        with self._opened(os.O_RDONLY) as fd:
            return mmap.mmap(fd, self.layout.size, mmap.MAP_SHARED, mmap.PROT_READ)

    @contextlib.contextmanager
    def _opened(self, mode: int) -> Iterator[int]:
        fd = os.open(self.path, mode | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def _save_window(self, fd: int, step: Step, writer: PageWriter) -> int:
        window, passed = step
        entries = array("Q")
        buffers: list[memoryview] = []
        for (start, _end), pages in zip(window, _mapped(fd, window), strict=True):
            zeros = zero_pages(pages)
            entries.extend(page_entries(self.layout.pfn(start), len(pages) // PAGE, zeros))
            buffers.extend(stretches(pages, zeros))
        writer.write(PageData(entries.tobytes()), buffers)
        return passed


def _mapped(fd: int, window: Sequence[Extent]) -> Iterator[memoryview]:
    """Yield the pages of each extent of a window; they stay mapped as long as they are kept."""
    base = window[0][0] - window[0][0] % mmap.ALLOCATIONGRANULARITY
    length = window[-1][1] - base
    mapped = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=base)
    for start, end in window:
        mapped.madvise(POPULATE_READ, start - base, end - start)
        yield memoryview(mapped)[start - base : end - base]


class _Loader:
    """Puts the pages of one image into the RAM file, counting them."""

    def __init__(
        self, fd: int, buffers: WriteBehind, layout: RamLayout, progress: Progress
    ) -> None:
        self._fd = fd
        self._buffers = buffers
        self._layout = layout
        self._progress = progress
        self._done = 0
        self._shares: bool | None = None

    def pages(self, record: PageData, source: Source) -> None:
        """Take the data of one PAGE_DATA record from the source."""
        for run in record.runs():
            if run.has_data:
                self._run(run.pfn, run.pages, source)
            elif run.type == XALLOC:
                self._layout.offset(run.pfn, run.pages, source.offset)
            self._done += run.pages * PAGE
        self._progress(min(self._done, self._layout.size), self._layout.size)

    def _run(self, pfn: int, count: int, source: Source) -> None:
        position = self._layout.offset(pfn, count, source.offset)
        if self._shared(count * PAGE, source, position):
            return
        end = position + count * PAGE
        while position < end:
            piece = self._buffers.buffer()[: end - position]
            source.into(piece, PAGES)
            self._buffers.put(piece, position)
            position += len(piece)

    def _shared(self, size: int, source: Source, position: int) -> bool:
        """Share pages with the save file if it is a file with which that is possible."""
        place = source.place
        if place is None or place[1] % PAGE or not self._can_share(place[0]):
            return False
        source.skip(size, PAGES)
        self._buffers.wait()  # for earlier contents of the same pages
        share(*place, size, self._fd, position)
        return True

    def _can_share(self, file: int) -> bool:
        if self._shares is None:
            self._shares = can_clone(file, self._fd)
        return self._shares


def _write(fd: int, data: memoryview, position: int) -> None:
    """Write all of `data` into guest memory."""
    while data:
        try:
            done = os.pwrite(fd, data, position)
        except OSError as error:
            raise HypervisorError(f"guest memory: {error.strerror}") from error
        data = data[done:]
        position += done


def _steps(windows: Iterator[list[Extent]]) -> Iterator[Step]:
    """Yield each window, and by how many bytes of the file it is further than the one before."""
    before = 0
    for window in windows:
        yield window, window[-1][1] - before
        before = window[-1][1]


def begun(out: Sink, layout: RamLayout) -> libxc.ImageWriter:
    """Return the writer of an image, having written all that comes before its pages."""
    hole = layout.hole if out.align_pages else None
    header = libxc.DomainHeader(X86_HVM, *XEN)
    writer = libxc.ImageWriter(out, header, IMAGE_VERSION, hole=hole)
    writer.write(StaticDataEnd())
    return writer


def size_before_pages(layout: RamLayout) -> int:
    """Return how many bytes `begun` writes."""
    sink = Sink(io.BytesIO())
    begun(sink, layout)
    return sink.offset


def _windows(fd: int, layout: RamLayout) -> Iterator[list[Extent]]:
    """Yield the extents that have data, those of one aligned window at a time."""
    window: list[Extent] = []
    for extent in extents(fd, 0, layout.size):
        for piece in layout.cut(extent, WINDOW):
            if window and window[0][0] // WINDOW != piece[0] // WINDOW:
                yield window
                window = []
            window.append(piece)
    if window:
        yield window
