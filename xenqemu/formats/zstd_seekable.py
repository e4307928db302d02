"""The Zstandard seekable format: independent frames, and at the end a table of their sizes.

::

    frame │ frame │ … │ skippable frame with the seek table

    seek table    u32 0x184D2A5E      magic of a skippable frame       all little-endian
                  u32 size            bytes that follow
                  an entry a frame:   u32 bytes packed, u32 bytes unpacked, [u32 checksum]
                  u32 count           of entries
                  u8  descriptor      bit 7: entries have checksums; bits 6 to 2 are 0
                  u32 0x8F92EAB1      magic of a seek table

    raw frame     u32 0xFD2FB528, u8 0xA4 (single segment, u32 size, checksum), u32 size
                  blocks of 128 KiB at most: u24 last │ type 0 << 1 │ size << 3, then the bytes
                  u32 checksum        the low half of XXH64 of all bytes

Any zstd unpacks such a file, as it skips skippable frames.  Sources: zstd's
contrib/seekable_format/zstd_seekable_compression_format.md and RFC 8878.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from xenqemu.errors import BadRecord, Truncated
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.source import bounded
from xenqemu.formats.xx_hash import xxh64_intdigest

FRAME_MAGIC = 0xFD2FB528
TABLE_MAGIC = 0x184D2A5E
FOOTER_MAGIC = 0x8F92EAB1
SKIPPABLE = range(0x184D2A50, 0x184D2A60)
"""Magic numbers of frames that a reader passes over."""

WORD = struct.Struct("<I")
HEADER = struct.Struct("<II")
FOOTER = struct.Struct("<IBI")
ENTRY = struct.Struct("<II")
RAW_HEADER = struct.Struct("<IBI")
RAW_DESCRIPTOR = 0xA4
BLOCK = 128 << 10
CHECKSUMS = 0x80
RESERVED = 0x7C

WINDOW = 4 << 20
"""Bytes in a frame that is written here."""

FRAMES_MOST = 1 << 20
"""Frames of a file at most: 4 TiB in windows."""

UNPACKED_MOST = 8 << 20
"""Bytes of a frame at most where any place is to be read."""

PACKED_MOST = UNPACKED_MOST + (UNPACKED_MOST >> 7) + (1 << 10)
"""Bytes of a frame as it is in the file: what zstd cannot make smaller gets a little larger."""

WHERE = "zstd seek table"


def is_zstd(begin: bytes) -> bool:
    """Return whether a file that begins with these four bytes is one of zstd."""
    if len(begin) < WORD.size:
        return False
    magic = WORD.unpack_from(begin)[0]
    return magic == FRAME_MAGIC or magic in SKIPPABLE


class Frame(NamedTuple):
    """Where a frame is: its place and bytes in the file, and those of what is packed in it."""

    place: int
    packed: int
    start: int
    size: int
    checksum: int | None


class SeekTable:
    """The frames of a file; `size` is how many bytes are packed in all of them."""

    def __init__(
        self, packed: Sequence[int], unpacked: Sequence[int], checksums: Sequence[int] = ()
    ) -> None:
        self._places = array("Q", accumulate(packed, initial=0))
        self._starts = array("Q", accumulate(unpacked, initial=0))
        self._checksums = array("L", checksums)
        self.largest = max(unpacked, default=0)

    def __len__(self) -> int:
        return len(self._places) - 1

    @property
    def size(self) -> int:
        """How many bytes are packed in all frames."""
        return self._starts[-1]

    @property
    def end(self) -> int:
        """Where the last frame ends in the file."""
        return self._places[-1]

    def __getitem__(self, index: int) -> Frame:
        place, start = self._places[index], self._starts[index]
        packed, size = self._places[index + 1] - place, self._starts[index + 1] - start
        expected = self._checksums[index] if self._checksums else None
        return Frame(place, packed, start, size, expected)

    def at(self, offset: int) -> int:
        """Return which frame has the byte at `offset`, which is less than `size`."""
        return bisect_right(self._starts, offset) - 1


def pack_table(sizes: Sequence[tuple[int, int]]) -> bytes:
    """Return the seek table for frames of so many bytes, packed and unpacked."""
    entries = b"".join(ENTRY.pack(*each) for each in sizes)
    footer = FOOTER.pack(len(sizes), 0, FOOTER_MAGIC)
    return HEADER.pack(TABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def table_size(footer: bytes, file_size: int) -> int | None:
    """Return how many bytes the seek table has that ends in `footer`; None if it is none.

    Raises `TooBig` or `BadRecord` for one that cannot be in a file of `file_size` bytes.
    """
    if len(footer) < FOOTER.size:
        return None
    count, descriptor, magic = FOOTER.unpack(footer)
    if magic != FOOTER_MAGIC:
        return None
    at = file_size - FOOTER.size
    bounded(count, FRAMES_MOST, WHERE, at, "a count")
    if descriptor & RESERVED:
        raise BadRecord(WHERE, at + 4, "a descriptor whose reserved bits are 0", f"{descriptor:#x}")
    size: int = HEADER.size + count * _entry_size(descriptor) + FOOTER.size
    if size > file_size:
        raise Truncated(WHERE, 0, f"{size} bytes", f"{file_size} and then the end")
    return size


def parse_table(table: bytes, file_size: int) -> SeekTable:
    """Return the table that stands at the end of a file of `file_size` bytes.

    Its size is what `table_size` said.  Raises `FormatError` where it is not as the format has it,
    or not of a file of that size.
    """
    at = file_size - len(table)
    magic, size = HEADER.unpack_from(table)
    if magic != TABLE_MAGIC:
        raise BadRecord(WHERE, at, f"the magic {TABLE_MAGIC:#x}", f"{magic:#x}")
    if size != len(table) - HEADER.size:
        raise BadRecord(WHERE, at + 4, f"a size of {len(table) - HEADER.size}", str(size))
    _count, descriptor, _magic = FOOTER.unpack(table[-FOOTER.size :])
    words = array("I", table[HEADER.size : -FOOTER.size])
    each = _entry_size(descriptor) // WORD.size
    packed, unpacked = words[0::each], words[1::each]
    bounded(max(unpacked, default=0), UNPACKED_MOST, WHERE, at, "frames of bytes")
    bounded(max(packed, default=0), PACKED_MOST, WHERE, at, "frames of packed bytes")
    found = SeekTable(packed, unpacked, words[2::3] if each == 3 else ())
    if found.end != at:
        raise BadRecord(WHERE, at, f"frames of {at} bytes in all", str(found.end))
    return found


def raw_frame(data: memoryview) -> list[Buffer]:
    """Return the frame that has `data` as it is, at most 4 GiB less one byte, in buffers."""
    frame: list[Buffer] = [RAW_HEADER.pack(FRAME_MAGIC, RAW_DESCRIPTOR, len(data))]
    for start in range(0, len(data) or 1, BLOCK):
        block = data[start : start + BLOCK]
        last = start + BLOCK >= len(data)
        frame += [(len(block) << 3 | last).to_bytes(3, "little"), block]
    frame.append(checksum(data))
    return frame


def checksum(data: Buffer) -> bytes:
    """Return what zstd puts behind a frame's blocks: the low half of XXH64 of what is packed."""
    return WORD.pack(xxh64_intdigest(data) & 0xFFFFFFFF)


def _entry_size(descriptor: int) -> int:
    return ENTRY.size + (WORD.size if descriptor & CHECKSUMS else 0)
