"""The memory of an HVM or PVH guest, written as libxc writes it.

::

    headers  [X86_CPUID_POLICY]  [X86_MSR_POLICY]  STATIC_DATA_END  PAGE_DATA…
             X86_TSC_INFO  HVM_CONTEXT  [HVM_PARAMS]  END        version 3, Xen 4.14 on
    headers  PAGE_DATA…  X86_TSC_INFO  HVM_CONTEXT  [HVM_PARAMS]  END         version 2

Two things differ from libxc.  Holes are left out, where libxc writes eight bytes for each page of
them.  Pages of zeros are written as XALLOC, "populate this", which every reader knows from PV
guests: Xen hands out zeroed pages.  And where libxc would leave out pages that xenpaging holds,
this refuses: Xen calls them holes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from xenqemu.errors import HypervisorError
from xenqemu.formats.libxc import DomainHeader, Writer
from xenqemu.formats.libxc_order import X86_HVM
from xenqemu.formats.libxc_records import PAGE_SIZE, End, StaticDataEnd
from xenqemu.formats.page_data import PageData
from xenqemu.formats.sink import Sink
from xenqemu.formats.source import Source
from xenqemu.host.hypervisor import Progress, RunState
from xenqemu.host.pages import BATCH, image_room, page_table, stretches, zero_pages
from xenqemu.host.xen import guest_state
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.domain_info import XenDomain
from xenqemu.host.xen.guest_pages import XALLOC, XTAB, GuestPages, Span
from xenqemu.host.xen.library import Xen

_ORDINARY = re.compile(rb"\x00+")
_NO_HOLES = re.compile(rb"[^\xf0]+")


class HvmMemory:
    """One HVM or PVH guest; `elide_zeros` is whether pages of zeros are written as XALLOC."""

    def __init__(self, xen: Xen, domid: int, *, elide_zeros: bool = True) -> None:
        self._xen = xen
        self._domid = domid
        self._elide_zeros = elide_zeros

    def room(self) -> int:
        """Return how many bytes the image has at most, from the pages that the guest has now."""
        pages = Control(self._xen).existing(self._domid).pages
        return image_room(pages) + guest_state.context_room(self._xen, self._domid)

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image; raise `HypervisorError` unless the guest is suspended."""
        domain = self._suspended()
        xen, domid, release = self._xen, self._domid, self._xen.release
        writer = Writer(out, DomainHeader(X86_HVM, *xen.version), release.image)
        for policy in guest_state.policies(xen, domid):
            writer.write(policy)
        if release.image >= 3:
            writer.write(StaticDataEnd())
        with xen.handle_of("xenforeignmemory") as handle:
            self._save_pages(GuestPages(xen, handle, domid), writer, domain.pages, progress)
        writer.write(guest_state.tsc_info(xen, domid))
        writer.write(guest_state.hvm_context(xen, domid))
        params = guest_state.hvm_params(xen, domid)
        if params.params:
            writer.write(params)
        writer.write(End())

    def load(self, source: Source, progress: Progress) -> None:  # noqa: ARG002 - GuestMemory's
        """Refuse: on Xen, libxl builds the domain of a whole record, memory included."""
        raise HypervisorError("on Xen an image is not read into a domain: libxl restores records")

    def _suspended(self) -> XenDomain:
        domain = Control(self._xen).existing(self._domid)
        if domain.run_state is not RunState.SUSPENDED:
            raise HypervisorError(f"domain {self._domid} is {domain}, not suspended")
        if domain.paged:
            raise HypervisorError(f"{domain.paged} pages of domain {self._domid} are paged out")
        return domain

    def _save_pages(
        self, guest: GuestPages, writer: Writer, expected: int, progress: Progress
    ) -> None:
        done, total = 0, expected * PAGE_SIZE
        for first in range(0, Control(self._xen).gpfns(self._domid), BATCH):
            types = guest.types(first)
            if types:
                self._save_batch(guest, first, bytearray(types), writer)
                done += (BATCH - types.count(XTAB)) * PAGE_SIZE
                progress(min(done, total), total)
        progress(total, total)

    def _save_batch(self, guest: GuestPages, first: int, types: bytearray, writer: Writer) -> None:
        spans = [match.span() for match in _ORDINARY.finditer(types)]
        with guest.mapped(first, spans) as pages:
            zeros = zero_pages(pages) if self._elide_zeros else []
            _mark(types, spans, zeros)
            writer.pages(_said(first, types), list(stretches(pages, zeros)))


def _mark(types: bytearray, spans: Sequence[Span], zeros: Sequence[int]) -> None:
    """Turn those pages of `spans` that `zeros` counts, as if side by side, into XALLOC."""
    side_by_side = bytearray(sum(end - start for start, end in spans))
    for index in zeros:
        side_by_side[index] = XALLOC
    for start, end in spans:
        types[start:end] = side_by_side[: end - start]
        del side_by_side[: end - start]


def _said(first: int, types: bytearray) -> PageData:
    """Return what a record says of a batch, without its holes."""
    table = page_table(first, types)
    spans = (match.span() for match in _NO_HOLES.finditer(types))
    return PageData(b"".join(table[start * 8 : end * 8] for start, end in spans))
