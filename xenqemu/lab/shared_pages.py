"""Guest pages that a RAM file and a save file share: cloned by ranges, not copied.

Both files are on one file system that can do so, and pages are aligned in the save file::

    RAM file    │ data ……………… │ hole │ data … │ hole ……… │ data │
                 ╲                ╲      ╲         ╲        ╲      ╲
    save file     header, table │ data ……………… data … data │ header, …

The data of a record is up to `RECORD` bytes, so that it takes time by extents and not by pages:
what is zeros is not looked for, and what is a hole stays one.  A file keeps what it has while the
guest writes on: what is dirty in the RAM file is written to the disk first, by the kernel.

What cannot be shared is copied instead, for whatever reason: one XFS group may have no space for
its books, for example, where another has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc import ImageWriter
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.stream.page_data import PageData, consecutive
from xenqemu.host.guest_memory import Progress
from xenqemu.lab.ram_layout import Extent, RamLayout, extents
from xenqemu.system.reflink import clone_range

RECORD = 64 << 20
"""Bytes of pages in a record at most; libxc's readers take 128 MiB with all that is before them."""


def save_shared(
    ram: int, layout: RamLayout, writer: ImageWriter, file: int, progress: Progress
) -> None:
    """Write all pages of the RAM file `ram` by a `writer`, whose sink is the file `file`.

    Raises `OSError` where they cannot even be copied.
    """
    for parts in _records(ram, layout):
        table = [consecutive(layout.pfn(start), (end - start) // PAGE) for start, end in parts]
        place = writer.without_pages(PageData(b"".join(table)))
        for start, end in parts:
            share(ram, start, end - start, file, place)
            place += end - start
        progress(parts[-1][1], layout.size)


def share(source: int, start: int, size: int, target: int, place: int) -> None:
    """Have `size` bytes of the file `source` from `start` on at `place` of the file `target`.

    They are shared if that is possible, and else copied; raises the `OSError` of a copy, and
    `HypervisorError` if the source is too short.
    """
    try:
        clone_range(source, start, size, target, place)
    except OSError:
        while size:
            done = os.copy_file_range(source, target, size, start, place)
            if not done:
                raise HypervisorError(f"guest memory ends at {start}, {size} bytes short") from None
            start, place, size = start + done, place + done, size - done


def _records(ram: int, layout: RamLayout) -> Iterator[Sequence[Extent]]:
    """Yield the parts of the RAM file that have data, those of one record at a time."""
    record: list[Extent] = []
    size = 0
    for extent in extents(ram, 0, layout.size):
        for start, end in layout.cut(extent, RECORD):
            if size + end - start > RECORD:
                yield record
                record, size = [], 0
            record.append((start, end))
            size += end - start
    if record:
        yield record
