"""How guest pages lie in a save file: as libxc writes them, or each on a multiple of 4096.

::

    xl header, config, NULs │ libxl's and libxc's headers … STATIC_DATA_END │    aligned here
    PAGE_DATA, count, entries, padding │ page │ page │ …                    │    and here
    PAGE_DATA, count, entries, padding │ page │ page │ …

The first record begins on a multiple of 4096 by NULs behind the config, which xl never reads.  In
each record the entries are followed by padding, up to the next multiple: entries of a hole
(XTAB, without data), all of one pfn beyond the guest's last page, so that their number is 510 more
than a multiple of 512.  libxc's readers for HVM and PVH guests (4.6 to 4.22) pass over holes, of
whatever pfn; for a PV guest they would note a type, so its image is never laid out so.

A page that stands so can be mapped, cloned, or found again by whatever stores blocks.
"""

from __future__ import annotations

from enum import Enum

from xenqemu.formats.stream.framing import HEADER
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.page_data import COUNT, ENTRY, XTAB, PageData


class Layout(Enum):
    """How the pages of a save file lie in it."""

    ALIGNED = "aligned"
    XL = "xl"


def padded(pages: PageData, offset: int, hole: int) -> PageData:
    """Return `pages` with the padding of a record at `offset` (a multiple of 8) of the file.

    Its entries are of the pfn `hole`.  One alone could be a hole that libxc named, so there are two
    or more.
    """
    missing = -(offset + HEADER.size + COUNT.size + len(pages.table)) % PAGE_SIZE // ENTRY.size
    if missing == 1:
        missing += PAGE_SIZE // ENTRY.size
    return PageData(pages.table + ENTRY.pack(XTAB | hole) * missing)


def tail_for(size: int) -> bytes:
    """Return what follows the config, if without it there are `size` bytes before PAGE_DATA."""
    return bytes(-size % PAGE_SIZE)
