"""The records of QEMU's stream of RAM, as it writes them, for streams that a test makes."""

from __future__ import annotations

import struct

HEADER = b"QEVM" + struct.pack(">I", 3)
START = HEADER + b"\1" + struct.pack(">IB3sII", 2, 3, b"ram", 0, 4)
EOS = struct.pack(">Q", 0x10)
PART = b"\2" + struct.pack(">I", 2)


def sizes(**blocks: int) -> bytes:
    """Return the record that says how long the blocks are."""
    each = [struct.pack(f">B{len(name)}sQ", len(name), name.encode(), size)
            for name, size in blocks.items()]  # fmt: skip
    return struct.pack(">Q", sum(blocks.values()) | 4) + b"".join(each)


def page(offset: int, contents: bytes, block: str = "") -> bytes:
    """Return the record of a page; without a block, of that of the page before."""
    zero = not any(contents)
    flags = (2 if zero else 8) | (0 if block else 0x20)
    name = bytes([len(block)]) + block.encode() if block else b""
    return struct.pack(">Q", offset | flags) + name + (b"\0" if zero else contents)
