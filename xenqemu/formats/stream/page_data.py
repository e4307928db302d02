"""The PAGE_DATA record of libxc: guest pages, which are not kept here.

::

    u32 count (1 or more)   u32 0
    u64 entry[count]        bits 63-60 type, 59-52 zero, 51-0 pfn
    4096 bytes for each entry that has data, in their order

    type  0       ordinary page                      data
          1-4     L1-L4 page table (PV)              data
          9-C     the same, pinned                   data
          D       broken: not populated              -
          E       populate, without contents         -
          F       a hole                             -
          5-8     illegal

Writers put at most 1024 entries in a record; Xen's reader has no bound but that of all records.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from xenqemu.errors import BadRecord
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.framing import HEADER, RecordHeader
from xenqemu.formats.stream.libxc_records import PAGE_SIZE, RECORD_LIMIT
from xenqemu.formats.stream.source import Source, bounded
from xenqemu.frozen import Frozen

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink

WHERE = "libxc PAGE_DATA"
COUNT = struct.Struct("<II")
ENTRY = struct.Struct("<Q")
MAX_ENTRIES = 1 << 18
"""Entries of a record that are read; no more than 32766 pages with data fit in one."""

BLOCK = 1 << 14
"""Entries that are looked at in one step."""

MAX_PADDING = 513
"""Entries of padding that a record may have."""

TYPE_SHIFT = 60
PFN_MASK = (1 << 52) - 1

BROKEN = 0xD << TYPE_SHIFT
XALLOC = 0xE << TYPE_SHIFT
XTAB = 0xF << TYPE_SHIFT
"""An entry is one of these (or a page table's type, or 0) and a pfn, or-ed."""

WITHOUT_DATA = b"\xd0\xe0\xf0"
LEGAL = bytes(kind << 4 for kind in range(16) if kind not in range(5, 9))
LOW_NIBBLE = bytes(range(16))
_OF_ONE_TYPE = re.compile(rb"(.)\1*+", re.DOTALL)


class Run(NamedTuple):
    """`pages` consecutive pages from `pfn` on, all of one type (as in an entry: shifted)."""

    type: int
    pfn: int
    pages: int

    @property
    def has_data(self) -> bool:
        """Whether the pages of this run are in the record."""
        return self.type < BROKEN


class PageData(Frozen):
    """Which pages a record has: `table` are its entries, 8 bytes each, as in the record."""

    TYPE: ClassVar[int] = 0x01
    NAME: ClassVar[str] = "PAGE_DATA"
    kind: ClassVar[int] = TYPE
    table: bytes

    @classmethod
    def of(cls, entries: Sequence[int]) -> PageData:
        """Return the value for `entries` (u64: type << 60 | pfn)."""
        return cls(struct.pack(f"<{len(entries)}Q", *entries))

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.table) // ENTRY.size

    @property
    def data_size(self) -> int:
        """Bytes of pages that follow the entries."""
        # The type is in the last byte of each entry; a loop over them would cost more
        # than copying the pages.
        return PAGE_SIZE * len(self.table[7::8].translate(None, WITHOUT_DATA))

    @property
    def body_size(self) -> int:
        """Bytes of the whole body."""
        return COUNT.size + len(self.table) + self.data_size

    def entries(self) -> Iterator[int]:
        """Yield the entries (u64: type << 60 | pfn)."""
        for (entry,) in ENTRY.iter_unpack(self.table):
            yield entry

    @property
    def padding(self) -> int:
        """How many entries at the end are padding (module `layout`): a hole, named repeatedly."""
        last = self.table[-ENTRY.size :]
        if not last or last[-1] != XTAB >> 56:
            return 0
        longest = self.table[-MAX_PADDING * ENTRY.size :]
        differ = int.from_bytes(longest) ^ int.from_bytes(last * MAX_PADDING)
        same = ((differ & -differ).bit_length() - 1) // (ENTRY.size * 8) if differ else MAX_PADDING
        return same if same > 1 else 0

    @property
    def last_pfn(self) -> int:
        """The pfn of the last entry."""
        (entry,) = ENTRY.unpack_from(self.table, len(self.table) - ENTRY.size)
        return int(entry) & PFN_MASK

    def runs(self) -> Iterator[Run]:
        """Yield the entries but the padding as runs of consecutive pfns of one type.

        A run has `BLOCK` pages at most.
        """
        size = len(self.table) - self.padding * ENTRY.size
        for start in range(0, size, BLOCK * ENTRY.size):
            block = self.table[start : min(start + BLOCK * ENTRY.size, size)]
            types = block[7::8]
            if types.count(types[0]) == len(types):  # which looking for spans would take long for
                yield from _runs(block)
                continue
            for span in _OF_ONE_TYPE.finditer(types):
                yield from _runs(block[span.start() * ENTRY.size : span.end() * ENTRY.size])

    def check(self, offset: int) -> None:
        """Raise `BadRecord` for an entry that is illegal; `offset` is that of the first one."""
        if not self.table or len(self.table) % ENTRY.size:
            got = f"{len(self.table)} bytes"
            raise BadRecord(WHERE, offset, "one or more entries of 8 bytes", got)
        types, reserved = self.table[7::8], self.table[6::8]
        if types.translate(None, LEGAL) or reserved.translate(None, LOW_NIBBLE):
            at, entry = next(self._illegal())
            expected = "a type of 0-4 or 9-F and bits 52-59 zero"
            raise BadRecord(WHERE, offset + at, expected, f"{entry:#018x}")

    def _illegal(self) -> Iterator[tuple[int, int]]:
        for index, entry in enumerate(self.entries()):
            if entry >> TYPE_SHIFT in range(5, 9) or entry >> 52 & 0xFF:
                yield index * ENTRY.size, entry


def read(source: Source, header: RecordHeader) -> PageData:
    """Read count and entries; `source` is left at the first page (there is no padding)."""
    bounded(header.length, RECORD_LIMIT, WHERE, header.offset + 4, "a length")
    if header.length < COUNT.size:
        expected = f"a body of {COUNT.size} bytes or more"
        raise BadRecord(WHERE, header.offset + 4, expected, str(header.length))
    offset = source.offset
    count, reserved = COUNT.unpack(source.exact(COUNT.size, WHERE))
    if reserved:
        raise BadRecord(WHERE, offset + 4, "zero in a reserved field", f"{reserved:#x}")
    most = min(MAX_ENTRIES, (header.length - COUNT.size) // ENTRY.size)
    bounded(count, most, WHERE, offset, "a count")
    pages = PageData(source.exact(count * ENTRY.size, WHERE))
    pages.check(offset + COUNT.size)
    if pages.body_size != header.length:
        expected = f"a body of {pages.body_size} bytes for these entries"
        raise BadRecord(WHERE, header.offset + 4, expected, str(header.length))
    return pages


def packed(pages: PageData, buffers: Sequence[Buffer], offset: int) -> list[Buffer]:
    """Return the record at `offset`, in pieces.

    `buffers` are the pages that have data, in order, in any pieces of bytes; nothing is joined.
    Raises `BadRecord` or `TooBig`.
    """
    head = head_of(pages, offset)
    given = sum(len(buffer) for buffer in buffers)
    if given != pages.data_size:
        raise BadRecord(WHERE, offset, f"{pages.data_size} bytes of pages", str(given))
    return [head, *buffers]


def head_of(pages: PageData, offset: int) -> bytes:
    """Return what a record at `offset` has before its pages; raise `BadRecord` or `TooBig`."""
    pages.check(offset + HEADER.size + COUNT.size)
    bounded(pages.count, MAX_ENTRIES, WHERE, offset, "a count")
    length = bounded(pages.body_size, RECORD_LIMIT, WHERE, offset, "a length")
    return HEADER.pack(PageData.TYPE, length) + COUNT.pack(pages.count, 0) + pages.table


def write(sink: Sink, pages: PageData, buffers: Sequence[Buffer]) -> None:
    """Write the record as `packed` makes it: one system call where the pieces are few."""
    record = packed(pages, buffers, sink.offset)
    sink.cut()
    sink.writev(record)
    sink.cut()


def skip(pages: PageData, source: Source) -> None:
    """Skip the pages, without reading them where the source is a file."""
    source.skip(pages.data_size, WHERE)


def consecutive(first: int, count: int) -> bytes:
    """Return `count` entries (u64, little-endian) from `first` on, each 1 more than the former.

    They are made column by column, 256 at a time: the lowest byte counts, the others stay.
    """
    blocks = range(first >> 8, (first + count - 1 >> 8) + 1)
    table = bytearray(len(blocks) * 256 * ENTRY.size)
    table[:: ENTRY.size] = bytes(range(256)) * len(blocks)
    for column in range(1, ENTRY.size):
        shift = 8 * (column - 1)
        if blocks[0] >> shift == blocks[-1] >> shift:
            values = bytes([blocks[0] >> shift & 0xFF]) * (256 * len(blocks))
        else:
            values = b"".join([bytes([block >> shift & 0xFF]) * 256 for block in blocks])
        table[column :: ENTRY.size] = values
    start = (first & 0xFF) * ENTRY.size
    return bytes(table[start : start + count * ENTRY.size])


def _runs(table: bytes) -> Iterator[Run]:
    """Yield the runs of one or more entries of one type; most often it is one run."""
    (first,), (last,) = ENTRY.unpack_from(table), ENTRY.unpack_from(table, len(table) - ENTRY.size)
    count = len(table) // ENTRY.size
    if last - first == count - 1 and table == consecutive(first, count):
        yield _run(first, last + 1)
        return
    after = first
    for (entry,) in ENTRY.iter_unpack(table):
        if entry != after:
            yield _run(first, after)
            first = after = entry
        after += 1
    yield _run(first, after)


def _run(first: int, after: int) -> Run:
    return Run(first & ~PFN_MASK, first & PFN_MASK, after - first)
