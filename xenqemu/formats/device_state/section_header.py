"""The bytes before and after the state of a device in QEMU's stream.

::

    u8  0x04 (QEMU_VM_SECTION_FULL)
    u32 section id          all numbers big-endian
    u8  length, idstr       the device's path, "/" and the name of its state; ASCII
    u32 instance id
    u32 version id
        state               of no stated length
    u8  0x7e, u32 section id            only where migration.send-section-footer is on

(qemu_savevm_state_* and save_section_header of migration/savevm.c.)
"""

from __future__ import annotations

import re
import struct

from xenqemu.frozen import Frozen

EOF = 0x00
SECTION_FULL = 0x04
SECTION_FOOTER = 0x7E
FOOTER_SIZE = 5
NUMBERS = struct.Struct(">II")

SHAPE = re.compile(rb"(?s)\x04(?=\x00\x00..[\x02-\xff][ -~]{2})")
"""The shape of a header, to search for one: id below 65536, two letters of name."""
MOST_TRIES = 1 << 16
"""Places of that shape that are examined at most."""


class Header(Frozen):
    """The header at `offset` of the device state that begins at `start`."""

    id: int
    idstr: str
    instance_id: int
    version_id: int
    offset: int
    start: int

    @property
    def device(self) -> str:
        """Name of the device's VMStateDescription: `idstr` without the path."""
        return self.idstr.rpartition("/")[2]


def is_idstr(name: str) -> bool:
    """Return whether `name` can name a device: 1 to 255 printable ASCII characters."""
    return 0 < len(name) < 256 and name.isascii() and name.isprintable()


def pack_header(section_id: int, idstr: str, instance_id: int, version_id: int) -> bytes:
    """Return the bytes of a header; `idstr` is one by `is_idstr`, the numbers are u32."""
    name = idstr.encode("ascii")
    start = bytes([SECTION_FULL]) + section_id.to_bytes(4, "big") + bytes([len(name)])
    return start + name + NUMBERS.pack(instance_id, version_id)


def pack_footer(section_id: int) -> bytes:
    """Return the end of a section in a stream with footers."""
    return bytes([SECTION_FOOTER]) + section_id.to_bytes(4, "big")


def header_at(data: bytes, offset: int) -> Header | None:
    """Return the header at `offset`, None if there is none."""
    if offset + 6 > len(data) or data[offset] != SECTION_FULL:
        return None
    numbers = offset + 6 + data[offset + 5]
    start = numbers + NUMBERS.size
    name = data[offset + 6 : numbers].decode("latin-1")
    if start > len(data) or not is_idstr(name):
        return None
    section_id = int.from_bytes(data[offset + 1 : offset + 5], "big")
    instance_id, version_id = NUMBERS.unpack_from(data, numbers)
    return Header(section_id, name, instance_id, version_id, offset, start)


def is_cut_short(data: bytes, offset: int) -> bool:
    """Return whether the stream ends at `offset` or in a header that begins there."""
    rest = data[offset : offset + 6]
    if not rest:
        return True
    length = rest[5] if len(rest) == 6 else 0
    return rest[0] == SECTION_FULL and offset + 6 + length + NUMBERS.size > len(data)


def headers_by_shape(data: bytes, offset: int, most: int) -> list[Header] | None:
    """Return all that look like headers from `offset` on; None if those are more than `most`."""
    headers = []
    for tries, match in enumerate(SHAPE.finditer(data, offset)):
        header = header_at(data, match.start())
        if header:
            headers.append(header)
        if len(headers) > most or tries > MOST_TRIES:
            return None
    return headers
