"""A whole guest as QEMU migrates it: its RAM, and behind it the state of its devices.

::

    "QEVM", u32 version 3                          all numbers big-endian
    u8 0x01 start   u32 section, u8 length, "ram", u32 instance 0, u32 version 4; RAM records
    u8 0x02 part    u32 section; RAM records                      any number of these
    u8 0x04 full …                                 devices, as `device_stream` has them
    u8 0x00

    RAM record    u64 offset in its block | flags (12 bits), and for
      MEM_SIZE 0x04   offset: bytes of all blocks together; for each: u8 length, name, u64 bytes
      ZERO     0x02   [block] u8 0
      PAGE     0x08   [block] 4096 bytes
      EOS      0x10   the end of the section's records
      [block] is u8 length, name; left out with CONTINUE 0x20: the block of the record before

(migration/ram.c, migration/savevm.c.)  This is what QEMU sends to a pipe for a background snapshot:
each page once, in any order.  Nothing marks the end of RAM.  What other capabilities would add is
refused: footers, compressed pages, XBZRLE, several channels.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from xenqemu.errors import BadRecord, Unsupported
from xenqemu.formats.device_state.device_stream import HEADER, MAGIC, MAX_SIZE, VERSION
from xenqemu.formats.device_state.section_header import SECTION_FULL
from xenqemu.formats.stream.source import Source, bounded

PAGE = 4096
START, PART = 0x01, 0x02

ZERO, MEM_SIZE, PAGE_FLAG, EOS, CONTINUE = 0x02, 0x04, 0x08, 0x10, 0x20
FLAGS = 0xFFF

MOST_BLOCKS = 256
MOST_BYTES = 1 << 52
"""Of all blocks together, at most."""

BATCH = 1024
"""Most pages that are given at once."""

RAM_VERSION = 4

_PART = struct.Struct(">BI")
_U64 = struct.Struct(">Q")
_NAMED = struct.Struct(">II")
_ZERO_RECORD = struct.Struct(">QB")
_PAGE_RECORD = struct.Struct(f">Q{PAGE}x")
_LONGEST = _PAGE_RECORD.size + 256
"""Bytes of a record with the name of its block, at most."""

_WHERE = "RAM stream"


@dataclass(frozen=True)
class Pages:
    """Pages of one block: their offsets in it, in the order of the stream.

    `data` has their contents, page by page at intervals of `stride` bytes; None for zeros.
    """

    block: str
    offsets: array[int]
    data: memoryview | None = None
    stride: int = PAGE

    def contents(self) -> list[memoryview]:
        """Return the contents of each page; nothing of pages of zeros."""
        data = self.data
        if data is None:
            return []
        return [data[at : at + PAGE] for at in range(0, len(data), self.stride)]


class RamStream:
    """Reads one stream: `blocks` are known at once, then come `pages`, then `device_state`.

    `blocks` has the length of each block, in bytes.
    """

    def __init__(self, source: Source) -> None:
        self._in = _Window(source)
        self._section = 0
        self._block = ""
        self._most = 1
        self.blocks: dict[str, int] = {}
        self._header()

    def pages(self) -> Iterator[list[Pages]]:
        """Yield all pages up to the end of RAM, some at once, valid until the next are asked for.

        Raises `FormatError` where the stream is unsound; whether each page comes, and once, is for
        the caller to see.
        """
        yield from self._records()
        while self._next_part():
            yield from self._records()

    def device_state(self) -> bytes:
        """Return what follows the RAM, as `xen-save-devices-state` would have written it."""
        return HEADER.pack(MAGIC, VERSION) + self._in.rest(MAX_SIZE - HEADER.size)

    def _header(self) -> None:
        magic, version = HEADER.unpack(self._in.exact(HEADER.size))
        if magic != MAGIC:
            raise BadRecord(_WHERE, 0, repr(MAGIC), repr(magic))
        if version != VERSION:
            raise Unsupported(_WHERE, 4, f"version {VERSION}", str(version))
        kind, self._section = _PART.unpack(self._in.exact(_PART.size))
        if kind != START:
            raise Unsupported(_WHERE, HEADER.size, "the start of RAM (0x01)", f"{kind:#04x}")
        where = self._in.offset
        name = self._name()
        instance, version = _NAMED.unpack(self._in.exact(_NAMED.size))
        if (name, instance, version) != ("ram", 0, RAM_VERSION):
            got = f"{name} {instance} version {version}"
            raise Unsupported(_WHERE, where, f"ram 0 version {RAM_VERSION}", got)
        self._sizes()

    def _sizes(self) -> None:
        """Read how long the blocks are."""
        where = self._in.offset
        (head,) = _U64.unpack(self._in.exact(_U64.size))
        if head & FLAGS != MEM_SIZE:
            raise BadRecord(_WHERE, where, "the sizes of the blocks", f"{head:#x}")
        left = bounded(head & ~FLAGS, MOST_BYTES, _WHERE, where, "a size of RAM")
        while left:
            where = self._in.offset
            name = self._name()
            (size,) = _U64.unpack(self._in.exact(_U64.size))
            bounded(size, left, _WHERE, where, f"a block {name}")
            bounded(len(self.blocks) + 1, MOST_BLOCKS, _WHERE, where, "a number of blocks")
            if name in self.blocks or not size or size % PAGE:
                expected = "another name, and a length of whole pages"
                raise BadRecord(_WHERE, where, expected, f"{name}, {size} bytes")
            self.blocks[name] = size
            left -= size

    def _next_part(self) -> bool:
        """Return whether more RAM follows, having passed over the header of its section."""
        self._in.make_way()
        where, kind = self._in.offset, self._in.ahead(1)[0]
        if kind == SECTION_FULL:
            return False
        if kind != PART:
            raise BadRecord(_WHERE, where, "more RAM (0x02) or a device (0x04)", f"{kind:#04x}")
        _kind, section = _PART.unpack(self._in.exact(_PART.size))
        if section != self._section:
            raise BadRecord(_WHERE, where + 1, f"section {self._section}", str(section))
        return True

    def _records(self) -> Iterator[list[Pages]]:
        """Yield the pages up to the end of a section."""
        found: list[Pages] = []
        count = 0
        while (head := self._head()) & FLAGS != EOS:
            found.append(self._run(head, BATCH - count))
            count += len(found[-1].offsets)
            if count >= BATCH or self._in.crowded:
                yield found
                found, count = [], 0
                self._in.make_way()
        if found:
            yield found
        if head != EOS:
            raise BadRecord(_WHERE, self._in.offset, "no offset at the end of a section", hex(head))
        self._in.exact(_U64.size)

    def _head(self) -> int:
        (head,) = _U64.unpack_from(self._in.ahead(_U64.size))
        return int(head)

    def _run(self, head: int, most: int) -> Pages:
        """Return the page that comes next, and those like it behind it, `most` together."""
        where, flags = self._in.offset, head & FLAGS
        kind = flags & ~CONTINUE
        if kind not in (ZERO, PAGE_FLAG):
            raise Unsupported(_WHERE, where, "a page, or zeros", f"flags {flags:#x}")
        if not flags & CONTINUE:
            return self._named(head & ~FLAGS, kind)
        if not self._block:
            raise BadRecord(_WHERE, where, "the name of a block", f"flags {flags:#x}")
        record = _ZERO_RECORD if kind == ZERO else _PAGE_RECORD
        offsets = self._alike(record, flags, most)
        taken = self._in.exact(len(offsets) * record.size)
        fill = taken[_U64.size :: record.size] if kind == ZERO else None
        if max(offsets) >= self.blocks[self._block] or (fill and any(fill)):
            for number, offset in enumerate(offsets):  # the first one, however much was read
                at = where + number * record.size
                self._require_within(offset, at)
                if fill:
                    self._require_zeros(fill[number], at + _U64.size)
        data = taken[_U64.size :] if fill is None else None
        return Pages(self._block, offsets, data, record.size)

    def _alike(self, record: struct.Struct, flags: int, most: int) -> array[int]:
        """Return the offsets of the records of these flags that come next and were read already.

        A run that was as long as it might be is likely to go on; others are looked for in small
        steps.
        """
        data = self._in.ahead(record.size)
        count = min(most, self._most, len(data) // record.size)
        heads = [each[0] for each in record.iter_unpack(data[: count * record.size])]
        alike = next((n for n, each in enumerate(heads) if each & FLAGS != flags), count)
        self._most = min(BATCH, 2 * self._most) if alike == count else 1
        return array("Q", [each & ~FLAGS for each in heads[:alike]])

    def _named(self, offset: int, kind: int) -> Pages:
        """Return one page, of the block that it names."""
        where = self._in.offset
        self._in.exact(_U64.size)
        name = self._name()
        if name not in self.blocks:
            raise BadRecord(_WHERE, where, "a block with a size", name)
        self._block = name
        self._require_within(offset, where)
        if kind == ZERO:
            at = self._in.offset
            self._require_zeros(self._in.exact(1)[0], at)
            return Pages(name, array("Q", [offset]))
        return Pages(name, array("Q", [offset]), self._in.exact(PAGE))

    def _require_within(self, offset: int, where: int) -> None:
        size = self.blocks[self._block]
        if offset >= size:
            expected = f"an offset below {size} in {self._block}"
            raise BadRecord(_WHERE, where, expected, f"{offset:#x}")

    @staticmethod
    def _require_zeros(fill: int, where: int) -> None:
        if fill:
            raise Unsupported(_WHERE, where, "a page of zeros", f"one of {fill:#04x}")

    def _name(self) -> str:
        where = self._in.offset
        name = bytes(self._in.exact(self._in.exact(1)[0])).decode("latin-1")
        if not (name and name.isascii() and name.isprintable()):
            raise BadRecord(_WHERE, where, "the name of a block", repr(name)[:80])
        return name


class _Window:
    """What was read of a source and not taken yet: views of one buffer, valid until `make_way`.

    Pages stay where they were read to, so that they are copied once on their way.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer = memoryview(bytearray((BATCH + 1) * _PAGE_RECORD.size))
        self._start = self._end = 0

    @property
    def offset(self) -> int:
        """Where in the stream what comes next begins."""
        return self._source.offset - (self._end - self._start)

    @property
    def crowded(self) -> bool:
        """Whether the buffer may end within the next record."""
        return len(self._buffer) - self._start < _LONGEST

    def make_way(self) -> None:
        """Move what was not taken to the front, if the buffer may end within the next record."""
        if self.crowded:
            held = self._end - self._start
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held

    def ahead(self, size: int) -> memoryview:
        """Return what comes next, `size` bytes or more, and leave it; raise `Truncated`."""
        while self._end - self._start < size:
            got = self._source.readinto(self._buffer[self._end :])
            if not got:  # this says where, and how much is missing
                self._source.into(self._buffer[self._end : self._start + size], _WHERE)
            self._end += got
        return self._buffer[self._start : self._end]

    def exact(self, size: int) -> memoryview:
        """Take the next `size` bytes; raise `Truncated`."""
        found = self.ahead(size)[:size]
        self._start += size
        return found

    def rest(self, limit: int) -> bytes:
        """Take all that is left; raise `TooBig` for more than `limit` bytes."""
        held = bytes(self._buffer[self._start : self._end])
        bounded(len(held), limit, _WHERE, self.offset, "a state")
        self._start = self._end
        return held + self._source.rest(limit - len(held), _WHERE)
