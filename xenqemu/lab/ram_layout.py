"""How a file is the RAM of a guest: which offset is which page, and which parts have data.

The file has RAM without the gap that a PC leaves below 4 GiB for its devices::

    file offset   0 ………… below │ below ………… size
    guest         0 ………… below │ 4 GiB ……… 4 GiB + size - below

so that offsets below `below` are guest-physical addresses, and the rest of RAM lies above the gap.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from xenqemu.errors import BadRecord, HypervisorError
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE

ABOVE = 4 << 30
"""Guest-physical address where RAM continues above the PCI hole."""

Extent = tuple[int, int]
"""Bytes from … up to …, as offsets in the RAM file, page-aligned."""


@dataclass(frozen=True)
class RamLayout:
    """`size` bytes of RAM, `below` of them under the PCI hole; `HypervisorError` if they cannot."""

    size: int
    below: int

    def __post_init__(self) -> None:
        size, below = self.size, self.below
        if size % PAGE or below % PAGE or not 0 < below <= min(size, ABOVE):
            layout = f"{size} bytes of RAM, {below} of them under the PCI hole"
            raise HypervisorError(f"{layout}: not whole pages, or none there")

    @property
    def hole(self) -> int:
        """The first page number behind all RAM."""
        return self.pfn(self.size)

    def pfn(self, offset: int) -> int:
        """Return the guest-physical page number of the page at `offset` in the file."""
        return (offset if offset < self.below else offset - self.below + ABOVE) // PAGE

    def offset(self, pfn: int, pages: int, where: int) -> int:
        """Return where `pages` pages from `pfn` on lie in the file.

        Raises `BadRecord`, with `where` as its offset, if the guest has no RAM there.
        """
        start, size = pfn * PAGE, pages * PAGE
        if start + size <= self.below:
            return start
        if start >= ABOVE and start - ABOVE + size <= self.size - self.below:
            return start - ABOVE + self.below
        raise BadRecord("PAGE_DATA", where, f"pages of {self.size} bytes of RAM", f"pfn {pfn:#x}")

    def cut(self, extent: Extent, step: int) -> Iterator[Extent]:
        """Cut an extent at multiples of `step` bytes, and at the PCI hole."""
        start, end = extent
        while start < end:
            stop = min(end, start - start % step + step, self.below if start < self.below else end)
            yield start, stop
            start = stop

    def widened(self, extent: Extent, step: int) -> Extent:
        """Return the extent up to the next places on both sides where `cut` would cut."""
        start, end = extent
        low = start - start % step
        high = min(-(-end // step) * step, self.size)
        return (
            self.below if low < self.below <= start else low,
            self.below if end <= self.below < high else high,
        )


def extents(fd: int, start: int, end: int) -> Iterator[Extent]:
    """Yield the parts between two offsets of a file that have data, whole pages each."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        if start >= end:
            return
        stop = min(end, -(-os.lseek(fd, start, os.SEEK_HOLE) // PAGE) * PAGE)
        yield start - start % PAGE, stop
        start = stop
