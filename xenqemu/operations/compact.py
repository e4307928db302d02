"""Copying a save file without its superseded pages."""

from __future__ import annotations

import os
from typing import BinaryIO

from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.layout import padded
from xenqemu.formats.stream.libxc import PageData
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.formats.stream.page_data import write
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.formats.stream.source import CHUNK, Source, parts_at
from xenqemu.formats.stream.superseded import Latest
from xenqemu.host.guest_memory import Progress
from xenqemu.system.cancellation import check_often


def compact(
    save_file: BinaryIO, out: BinaryIO | Outlet, progress: Progress, pieces: Pieces | None = None
) -> None:
    """Copy `save_file`, from its start, to `out`, with the last version of each page only.

    Where pages are aligned, they stay so.  `pieces` get the digests of what is written.
    """
    latest = Latest()
    holes: list[int] = []

    def note(table: PageData, source: Source) -> None:
        if not holes and table.padding and source.offset % PAGE_SIZE == 0:
            holes.append(table.last_pfn)
        latest.note(table, source)

    for _ in Walk(Source(save_file, check=check_often), note):
        pass
    save_file.seek(0)
    total = os.fstat(save_file.fileno()).st_size
    sink = Sink(out, pieces)

    def pages(table: PageData, source: Source) -> None:
        left, buffers = latest.left(table, source)
        if left.count:
            write(sink, padded(left, sink.offset, holes[0]) if holes else left, buffers)
        progress(source.offset, total)

    for step in Walk(Source(save_file, check=check_often), pages):
        if not isinstance(step.value, PageData):
            _copy(save_file, step, sink)
    progress(total, total)


def _copy(file: BinaryIO, record: Record, sink: Sink) -> None:
    """Copy a record, which may be long."""
    buffer = memoryview(bytearray(min(CHUNK, record.size)))
    for part in parts_at(file, record.offset, record.offset + record.size, buffer):
        check_often()
        sink.write(part)
