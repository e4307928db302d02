"""Streams of RAM and devices, in pieces: header, records of pages, ends of sections, devices."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from typing import BinaryIO

from tests.fuzz import noise, samples
from tests.fuzz.pieces import Language, Piece, Pieces, pool
from xenqemu.errors import BadRecord
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.ram_stream import (
    BATCH,
    CONTINUE,
    EOS,
    FLAGS,
    MEM_SIZE,
    PAGE,
    PAGE_FLAG,
    PART,
    ZERO,
    RamStream,
)
from xenqemu.formats.stream.source import Source

BLOCKS = {"pc.ram": 8 * PAGE, "vga.vram": 4 * PAGE}
HEADER = b"QEVM" + struct.pack(">IBIB3sII", 3, 1, 2, 3, b"ram", 0, 4)
ALL = sum(BLOCKS.values())
SIZES = struct.pack(">Q", ALL | MEM_SIZE) + b"".join(
    struct.pack(f">B{len(name)}sQ", len(name), name.encode(), size) for name, size in BLOCKS.items()
)
END = struct.pack(">Q", EOS)
MORE = struct.pack(">BI", PART, 2)
RECORD_FLAGS = (ZERO, PAGE_FLAG, ZERO | CONTINUE, PAGE_FLAG | CONTINUE, EOS, MEM_SIZE, 0x40, 0x80)


def _page(offset: int, block: str, *, named: bool) -> Piece:
    """Return the record of a page, of zeros where its number is even."""
    odd = offset // PAGE % 2
    flags = (PAGE_FLAG if odd else ZERO) | (0 if named else CONTINUE)
    name = struct.pack(f">B{len(block)}s", len(block), block.encode()) if named else b""
    fill = bytes([offset // PAGE]) * PAGE if odd else b"\0"
    return Piece("page", struct.pack(">Q", offset | flags) + name + fill)


@cache
def _samples() -> dict[bytes, Pieces]:
    """Return each sample with its pieces: of one part, and of several."""
    made = {}
    for each, (state, step) in enumerate(zip(samples.device_states(), (99, 3), strict=False)):
        pieces = [Piece("head", HEADER), Piece("sizes", SIZES), Piece("end", END)]
        pages = [(at, name) for name, size in BLOCKS.items() for at in range(0, size, PAGE)]
        for number, (offset, block) in enumerate(pages):
            if not number % step:
                pieces += [Piece("end", END)] * bool(number) + [Piece("part", MORE)]
            named = offset == 0 or (each == 1 and not number % 3)
            pieces.append(_page(offset, block, named=named))
        rest = Piece("devices", state[device_stream.HEADER.size :])
        pieces += [Piece("end", END), rest]
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
            contents = [bytes(page) for page in each.contents()] or [b""] * len(each.offsets)
            for offset, page in zip(each.offsets, contents, strict=True):
                assert 0 <= offset <= stream.blocks[each.block] - PAGE
                assert len(page) in (0, PAGE)
                found.append((each.block, offset, page))
    return found, stream.device_state()
