"""The memory of an HVM or PVH guest, written as libxc writes it.

::

    headers  [X86_CPUID_POLICY]  [X86_MSR_POLICY]  STATIC_DATA_END  PAGE_DATA…
             X86_TSC_INFO  HVM_CONTEXT  [HVM_PARAMS]  END        version 3, Xen 4.14 on
    headers  PAGE_DATA…  X86_TSC_INFO  HVM_CONTEXT  [HVM_PARAMS]  END         version 2

A suspended guest is written once, in the order of its pages.  One that runs is written in
iterations, by Xen's log of what it writes to; later pages take the place of earlier ones.  Where
libxc would leave out pages that xenpaging holds, this refuses: Xen calls them holes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc import DomainHeader, ImageWriter
from xenqemu.formats.stream.libxc_order import X86_HVM
from xenqemu.formats.stream.libxc_records import PAGE_SIZE, End, StaticDataEnd
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import RunState
from xenqemu.host.guest_memory import Live, Progress
from xenqemu.host.memory.live import write_live
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import BATCH, image_space, page_numbers
from xenqemu.host.memory.workers import in_threads
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.domain_info import XenDomain
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory import guest_state
from xenqemu.host.xen.memory.dirty_log import DeviceLog, DirtyLog, dirty_log_on
from xenqemu.host.xen.memory.guest_pages import XTAB, GuestPages, guest_pages
from xenqemu.host.xen.memory.logged_pages import LoggedPages
from xenqemu.host.xen.memory.page_records import count_pages, reporting, write_pages


class HvmMemory:
    """One HVM or PVH guest; `elide_zeros` is whether pages of zeros are written as XALLOC.

    `device_log` switches the dirty log of its device model.
    """

    def __init__(
        self, xen: Xen, domid: int, device_log: DeviceLog, *, elide_zeros: bool = True
    ) -> None:
        self._xen = xen
        self._domid = domid
        self._device_log = device_log
        self._elide_zeros = elide_zeros

    def space(self, _file: int | None = None) -> int:
        """Return how many bytes the image has at most, from the pages that the guest has now."""
        pages = Control(self._xen).existing(self._domid).pages
        return image_space(pages) + guest_state.max_context_size(self._xen, self._domid)

    def counted_space(self, progress: Progress) -> int:
        """Return the same after a look at each page: those of zeros take eight bytes."""
        if not self._elide_zeros:
            return self.space()
        expected = self._complete().pages * PAGE_SIZE
        data = zeros = 0
        report = reporting(progress, expected)
        with guest_pages(self._xen, self._domid) as guest:
            for pfns in self._batches():
                some = count_pages(guest, pfns, guest.types(pfns))
                data, zeros = data + some[0], zeros + some[1]
                report((data + zeros) * PAGE_SIZE)
        context = guest_state.max_context_size(self._xen, self._domid)
        return image_space(data, zeros) + context

    def size_before_pages(self) -> int:
        """Return the bytes of an image before its pages."""
        sink = Sink(io.BytesIO())
        self._begun(sink)
        return sink.offset

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image; raise `HypervisorError` unless the guest is suspended."""
        domain = self._complete()
        if domain.run_state is not RunState.SUSPENDED:
            raise HypervisorError(f"domain {self._domid} is {domain}, not suspended")
        writer = self._begun(out)
        out.changing = True  # netback may copy packets into a guest that is suspended
        self._save_pages(PageWriter(writer), domain.pages, progress)
        out.changing = False
        self._end(writer)

    def can_log_dirty(self) -> bool:
        """Return True: wherever such guests run, Xen can log them."""
        return True

    def save_live(self, out: Sink, progress: Progress, live: Live) -> None:
        """Write the image of a guest that runs until `live.suspend` suspends it."""
        self._complete()
        writer = self._begun(out)
        xen, domid = self._xen, self._domid

        out.changing = True
        pages = LoggedPages(xen, domid, writer, elide_zeros=self._elide_zeros)
        with dirty_log_on(DirtyLog(xen, domid), self._device_log):
            write_live(pages, out, progress, live)
        out.changing = False
        self._complete()
        self._end(writer)

    def load(self, source: Source, progress: Progress) -> None:  # noqa: ARG002 - GuestMemory's
        """Refuse: on Xen, libxl builds the domain from a whole save file, memory included."""
        raise HypervisorError(
            "on Xen an image is not loaded into a domain: libxl restores save files"
        )

    def _complete(self) -> XenDomain:
        """Return the domain; raise `HypervisorError` if an image cannot hold all of its state."""
        control = Control(self._xen)
        domain = control.existing(self._domid)
        if domain.paged:
            raise HypervisorError(f"{domain.paged} pages of domain {self._domid} are paged out")
        control.require_awake(self._domid)
        return domain

    def _begun(self, out: Sink) -> ImageWriter:
        """Write what comes before the pages, none of which changes while a guest runs."""
        release = self._xen.release
        header = DomainHeader(X86_HVM, *self._xen.version)
        hole = Control(self._xen).gpfns(self._domid) if out.align_pages else None
        writer = ImageWriter(out, header, release.image, hole=hole)
        for policy in guest_state.policies(self._xen, self._domid):
            writer.write(policy)
        if release.image >= 3:
            writer.write(StaticDataEnd())
        return writer

    def _end(self, writer: ImageWriter) -> None:
        """Write what comes after the pages, of a suspended guest."""
        xen, domid = self._xen, self._domid
        writer.write(guest_state.tsc_info(xen, domid))
        writer.write(guest_state.hvm_context(xen, domid))
        params = guest_state.hvm_params(xen, domid)
        if params.params:
            writer.write(params)
        writer.write(End())

    def _save_pages(self, writer: PageWriter, expected: int, progress: Progress) -> None:
        total = expected * PAGE_SIZE

        @contextmanager
        def worker() -> Iterator[Callable[[bytes], int]]:
            with guest_pages(self._xen, self._domid) as guest:
                yield partial(self._save_batch, guest, writer)

        in_threads(self._batches(), worker, reporting(progress, total), writer.threads)
        writer.flush()
        progress(total, total)

    def _save_batch(self, guest: GuestPages, writer: PageWriter, pfns: bytes) -> int:
        """Write up to 1024 pages, and return the bytes of memory that they are."""
        types = guest.types(pfns)
        if types:
            write_pages(guest, pfns, types, writer, elide_zeros=self._elide_zeros)
        return (len(types) - types.count(XTAB)) * PAGE_SIZE

    def _batches(self) -> Iterator[bytes]:
        """Yield the numbers of 1024 pages after another."""
        for first in range(0, Control(self._xen).gpfns(self._domid), BATCH):
            yield page_numbers(first)
