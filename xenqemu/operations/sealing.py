"""Making the seal of a save file: digests come while it is written, the index once it is whole."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any, BinaryIO

from xenqemu.errors import HostError, XenqemuError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.framing import HEADER, Record
from xenqemu.formats.stream.libxl_records import EMULATOR, EmulatorContext
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.pieces import Piece, Pieces
from xenqemu.formats.stream.seal import Seal, contiguous
from xenqemu.formats.stream.seal_check import record_digest
from xenqemu.formats.stream.seal_index import Index, Listed
from xenqemu.formats.stream.source import CHUNK, parts_at
from xenqemu.operations.inspect import Contents
from xenqemu.system.cancellation import check_often
from xenqemu.version import VERSION

TOO_BIG = "it is not sealed: its memory is too much for a seal"

PhaseTimes = Sequence[tuple[str, float, float]]
"""Phases of an operation: name, when it began in Unix time, and seconds."""

READERS = 2
"""Threads that read back what was shared; digests leave them to each other."""


class Sealing:
    """One seal to be made; `pieces` follow what is written, `take` the records of a walk after it.

    `key` is None for a seal that finds damage alone.
    """

    def __init__(self, key: bytes | None) -> None:
        self.key = key
        self.pieces = Pieces(key)
        self.index = Index()

    def take(self, record: Record, file: BinaryIO) -> None:
        """List a record of the save file `file`."""
        layer, name, offset, size, value = record
        if not layer:
            return
        if isinstance(value, PageData):
            self.index.add(f"{layer} {name}", offset, size)
            self.index.add_pages(value, offset)
        else:
            digest = record_digest(file, offset, offset + size)
            self.index.add(f"{layer} {name}", offset, size, digest)

    def seal(self, file: BinaryIO, found: Contents, phases: PhaseTimes = ()) -> Seal | None:
        """Return the seal of `file`, as `seal_for` does; None if it is too big for one."""
        self._read_back(file)
        pieces = self.pieces.in_order()
        if self.pieces.too_many:
            return None
        return seal_for(file, pieces, self.index, found, key=self.key, phases=phases)

    def _read_back(self, file: BinaryIO) -> None:
        """Digest what was shared with the guest's memory, and so never passed here.

        What was shared with an older file is looked at: raises `HostError` if that is damaged.
        """
        with ThreadPoolExecutor(READERS) as pool:
            for _ in pool.map(partial(self._read, file), self.pieces.take_later()):
                check_often()
            for _ in pool.map(partial(self._compare, file), self.pieces.shared):
                check_often()

    def _read(self, file: BinaryIO, ends: tuple[int, int]) -> None:
        buffer = memoryview(bytearray(CHUNK))
        self.pieces.add(ends[0], parts_at(file, *ends, buffer))

    def _compare(self, file: BinaryIO, piece: Piece) -> None:
        buffer = memoryview(bytearray(CHUNK))
        found = Pieces(self.key).add(piece.start, parts_at(file, piece.start, piece.end, buffer))
        if found != [piece]:
            where = f"what is shared at {piece.start:#x}"
            raise HostError(f"the base is damaged: {where} has another digest than its seal says")


def seal_for(
    file: BinaryIO,
    pieces: Sequence[Piece],
    index: Index,
    found: Contents,
    *,
    key: bytes | None,
    phases: PhaseTimes = (),
) -> Seal:
    """Return the seal of `file`, which holds what was `found`.

    `file` is a regular one, `pieces` and `index` are of all of it.  Raises `XenqemuError` where
    something was not digested.
    """
    index.devices = _devices(file, found)
    try:
        all_of_it = contiguous(pieces, found.size)
    except ValueError as error:
        raise XenqemuError(f"{file.name} cannot be sealed: {error}") from error
    about = about_of(found, phases)
    return Seal(found.size, key is not None, all_of_it, index, about)


def about_of(found: Contents, phases: PhaseTimes = ()) -> dict[str, Any]:
    """Return what a seal says for people and programs of a save file that holds what was found."""
    about = about_passing(found.config, phases)
    about["totals"] = {
        "bytes": found.size,
        "pages": {
            "data": found.pages.data,
            "zero": found.pages.zero,
            "other": found.pages.other,
        },
    }
    if found.domain:
        about["versions"]["xen"] = f"{found.domain.xen_major}.{found.domain.xen_minor}"
    return about


def about_passing(config: DomainConfig | None, phases: PhaseTimes = ()) -> dict[str, Any]:
    """Return what a seal says of a save file that passes: nobody has counted what it holds."""
    about: dict[str, Any] = {
        "sealed": round(time.time(), 3),
        "versions": {"xenqemu": VERSION},
        "phases": [
            {"phase": name, "began": round(began, 3), "seconds": round(seconds, 3)}
            for name, began, seconds in phases
        ],
    }
    if config:
        about["guest"] = {"name": config.name, "uuid": config.uuid}
    return about


def _devices(file: BinaryIO, found: Contents) -> list[Listed]:
    """Return the sections of the device state, each up to the next one, as places of the file."""
    if not found.devices or not found.devices.sections:
        return []
    record = next(run for run in found.records if run.name == EmulatorContext.NAME)
    start = record.offset + HEADER.size + EMULATOR.size
    sections = found.devices.sections
    places = [start + section.offset for section in sections] + [record.offset + record.size]
    made = []
    for section, (begin, end) in zip(sections, pairwise(places), strict=True):
        number = f" #{section.instance_id}" if section.instance_id else ""
        digest = record_digest(file, begin, end)
        made.append(Listed(begin, end - begin, f"{section.idstr}{number}", digest))
    return made
