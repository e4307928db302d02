"""Streams of RAM and devices, in pieces: header, records of pages, ends of sections, devices."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from typing import BinaryIO

from tests.doubles.qemu.ram_records import EOS, PART, START, page, sizes
from tests.fuzz import noise, samples
from tests.fuzz.pieces import Language, Piece, Pieces, pool
from xenqemu.errors import BadRecord
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.ram_stream import (
    BATCH,
    CONTINUE,
    FLAGS,
    MEM_SIZE,
    PAGE,
    PAGE_FLAG,
    ZERO,
    RamStream,
)
from xenqemu.formats.device_state.ram_stream import EOS as END
from xenqemu.formats.stream.source import Source

BLOCKS = {"pc.ram": 8 * PAGE, "vga.vram": 4 * PAGE}
ALL = sum(BLOCKS.values())
RECORD_FLAGS = (ZERO, PAGE_FLAG, ZERO | CONTINUE, PAGE_FLAG | CONTINUE, END, MEM_SIZE, 0x40, 0x80)


def _page(offset: int, block: str, *, named: bool) -> Piece:
    """Return the record of a page, of zeros where its number is even."""
    number = offset // PAGE
    contents = bytes([number if number % 2 else 0]) * PAGE
    return Piece("page", page(offset, contents, block if named else ""))


@cache
def _samples() -> dict[bytes, Pieces]:
    """Return each sample with its pieces: of one part, and of several."""
    made = {}
    for each, (state, step) in enumerate(zip(samples.device_states(), (99, 3), strict=False)):
        pieces = [Piece("head", START), Piece("sizes", sizes(**BLOCKS)), Piece("end", EOS)]
        pages = [(at, name) for name, size in BLOCKS.items() for at in range(0, size, PAGE)]
        for number, (offset, block) in enumerate(pages):
            if not number % step:
                pieces += [Piece("end", EOS)] * bool(number) + [Piece("part", PART)]
            named = offset == 0 or (each == 1 and not number % 3)
            pieces.append(_page(offset, block, named=named))
        rest = Piece("devices", state[device_stream.HEADER.size :])
        pieces += [Piece("end", EOS), rest]
        made[b"".join(piece.data for piece in pieces)] = tuple(pieces)
    return made


def streams() -> tuple[bytes, ...]:
    """Streams of a guest of two blocks."""
    return tuple(_samples())


def _split(data: bytes) -> Pieces:
    """Cut a sample; what is none is not cut."""
    if data not in _samples():
        raise BadRecord("RAM stream", 0, "a sample", "another stream")
    return _samples()[data]


def _record(chance: Random, data: bytes) -> bytes:
    """Edit the place or the flags of a record."""
    if len(data) < 8 or chance.random() < 0.3:
        return noise.changed(chance, data)
    (head,) = struct.unpack_from(">Q", data)
    if chance.random() < 0.5:
        head = head & ~FLAGS | chance.choice(RECORD_FLAGS)
    else:
        head = head & FLAGS | noise.boundary(chance, 64, ALL) & ~FLAGS
    return struct.pack(">Q", head) + data[8:]


LANGUAGE = Language(_split, {"page": _record, "end": _record}, pool(streams, _split))


def read(file: BinaryIO) -> tuple[list[tuple[str, int, bytes]], bytes]:
    """Read a stream whole; each page is within its block."""
    stream = RamStream(Source(file))
    found = []
    for group in stream.pages():
        assert 0 < sum(len(each.offsets) for each in group) <= BATCH
        for each in group:
            contents = [bytes(data) for data in each.contents()] or [b""] * len(each.offsets)
            for offset, data in zip(each.offsets, contents, strict=True):
                assert 0 <= offset <= stream.blocks[each.block] - PAGE
                assert len(data) in (0, PAGE)
                found.append((each.block, offset, data))
    return found, stream.device_state()
