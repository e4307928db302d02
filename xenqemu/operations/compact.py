"""Writing a record anew without the pages that later ones of it replace."""

from __future__ import annotations

import os
from typing import BinaryIO

from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.libxc import PageData
from xenqemu.formats.stream.page_data import write
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.superseded import Latest
from xenqemu.host.protocol import Progress


def compact(record: BinaryIO, out: BinaryIO, progress: Progress) -> None:
    """Write what `record` (a file, at its start) holds to `out`, each page as it was at last."""
    latest = Latest()
    for _ in Walk(Source(record), latest.note):
        pass
    record.seek(0)
    total = os.fstat(record.fileno()).st_size
    sink = Sink(out)

    def pages(table: PageData, source: Source) -> None:
        left, buffers = latest.left(table, source)
        if left.count:
            write(sink, left, buffers)
        progress(source.offset, total)

    for step in Walk(Source(record), pages):
        if not isinstance(step.value, PageData):
            sink.write(os.pread(record.fileno(), step.size, step.offset))
    progress(total, total)
