"""PAGE_DATA records of the pages of an HVM or PVH guest.

Two things differ from libxc.  Holes are left out, where libxc writes eight bytes for each page of
them.  Pages of zeros are written as XALLOC, "populate this", which every reader knows from PV
guests: Xen hands out zeroed pages.  But XALLOC says nothing of contents, so it will not do for a
page that the image may have already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from xenqemu.formats.stream.page_data import PageData
from xenqemu.host.guest_memory import Progress
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import Span, in_all, page_table, stretches, zero_pages
from xenqemu.host.xen.memory.guest_pages import XALLOC, GuestPages, Unmappable
from xenqemu.system.cancellation import check_often

_ORDINARY = re.compile(rb"\x00+")
_NO_HOLES = re.compile(rb"[^\xf0]+")
_WORD = 8


def write_pages(
    guest: GuestPages, pfns: bytes, types: bytes, writer: PageWriter, *, elide_zeros: bool
) -> int:
    """Write up to 1024 pages and return their number.

    `pfns` is a table of their numbers (u64), `types` has a byte a page.  Raises `Unmappable` before
    anything is written.
    """
    spans = [match.span() for match in _ORDINARY.finditer(types)]
    said = bytearray(types)
    with guest.mapped(_picked(pfns, spans)) as pages:
        zeros = zero_pages(pages) if elide_zeros else []
        _mark(said, spans, zeros)
        spans = [match.span() for match in _NO_HOLES.finditer(said)]
        table = PageData(_picked(page_table(pfns, said), spans))
        writer.write(table, list(stretches(pages, zeros)))
    return table.count


def count_pages(guest: GuestPages, pfns: bytes, types: bytes) -> tuple[int, int]:
    """Return how many of up to 1024 pages take space in a record, and how many are of zeros.

    The guest may run: pages that it gives back meanwhile, and cannot be mapped, are counted too.
    """
    spans = [match.span() for match in _ORDINARY.finditer(types)]
    count = in_all(spans)
    try:
        with guest.mapped(_picked(pfns, spans)) as pages:
            zeros = in_all(zero_pages(pages))
    except Unmappable:
        zeros = 0
    return count - zeros, zeros


def reporting(progress: Progress, total: int) -> Callable[[int], None]:
    """Return what takes the bytes of memory done so far, and tells `progress` of new ones."""
    before = 0

    def report(done: int) -> None:
        nonlocal before
        if done > before:
            before = done
            progress(min(done, total), total)
        else:
            check_often()  # most of what a guest could have is holes

    return report


def _picked(table: bytes, spans: Sequence[Span]) -> bytes:
    return b"".join(table[start * _WORD : end * _WORD] for start, end in spans)


def _mark(types: bytearray, spans: Sequence[Span], zeros: Sequence[Span]) -> None:
    """Turn those pages of `spans` that `zeros` counts, as if side by side, into XALLOC."""
    if not zeros:
        return
    side_by_side = bytearray(in_all(spans))
    for start, end in zeros:
        side_by_side[start:end] = bytes([XALLOC]) * (end - start)
    for start, end in spans:
        types[start:end] = side_by_side[: end - start]
        del side_by_side[: end - start]
