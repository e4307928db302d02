"""Save files with a seal, and what is where in them by another reader than that of seals."""

from __future__ import annotations

import io
from pathlib import Path

from tests.doubles.in_memory.save_files import config, save_file
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.errors import Damaged
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxl
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.page_data import COUNT, HEADER, PageData
from xenqemu.formats.stream.seal_check import Place
from xenqemu.formats.stream.source import Source
from xenqemu.operations.seal_file import seal_file

LAB = save_file(
    config(vcpus=1, host="lab"),
    (*made.LAB_STEPS[:2], made.MIXED, made.LAB_STEPS[2]),
    (libxl.EmulatorContext(2, 0, save_files.unpacked("hvm.qevm")), libxl.End()),
)
"""A save file of the lab, with the devices of a real QEMU."""


def sealed(path: Path, data: bytes = LAB, key: bytes | None = None) -> bytes:
    """Write a save file and seal it; return all of its bytes."""
    path.write_bytes(data)
    seal_file(path, key)
    return path.read_bytes()


class Whose:
    """Whose each byte of a save file is: which record's, which page's, which device's."""

    def __init__(self, data: bytes) -> None:
        self._end = len(data)
        self._records = [record for record in Walk(Source(io.BytesIO(data))) if record.layer]

    def is_named(self, offset: int, damaged: Damaged) -> bool:
        """Return whether an error names that whose byte at `offset` was changed."""
        if offset >= self._end:
            return damaged.record == "seal"
        places = [place for place in damaged.places if isinstance(place, Place)]
        return any(p.start <= offset < p.end and self._is(p, offset) for p in places)

    def _is(self, place: Place, offset: int) -> bool:
        record = next(r for r in self._records if r.offset <= offset < r.offset + r.size)
        if place.record != f"{record.layer} {record.name}":
            return False
        at = offset - record.offset - HEADER.size
        if isinstance(record.value, PageData):
            at -= COUNT.size + len(record.value.table)
            if at < 0:
                return True
            with_data = [e for e in record.value.entries() if e >> 60 < 0xD]
            pfn = with_data[at // 4096] & ((1 << 52) - 1)
            return any(run.pfn <= pfn < run.pfn + run.pages for run in place.pages)
        if isinstance(record.value, libxl.EmulatorContext):
            at -= 8
            sections = device_stream.read(record.value.state).sections
            before = [section for section in sections if section.offset <= at]
            return not before or place.device.split(" #")[0] == before[-1].idstr
        return True
