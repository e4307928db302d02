"""The libxc image, versions 2 (Xen 4.6-4.13) and 3 (4.14+).

::

    image header, big-endian                 domain header, little-endian
    u64 marker, all ones                     u32 type   1 x86 PV, 2 x86 HVM (and PVH)
    u32 id 0x58454E46 "XENF"                 u16 page_shift = 12
    u32 version                              u16 0
    u16 options   bit 0: big-endian records  u32 xen_major   0: a converted legacy stream
    u16 0                                    u32 xen_minor
    u32 0
    records (module record) up to END

The image has no length of its own.  A checkpointed one (Remus, COLO) is interrupted at each
CHECKPOINT: libxl's own records follow, and then more of libxc's, without new headers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from xenqemu.errors import Unsupported
from xenqemu.formats.stream import framing, page_data, value
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.framing import HEADER, Record, RecordHeader
from xenqemu.formats.stream.layout import padded
from xenqemu.formats.stream.libxc_order import LAYER, NAMES, RECORDS, X86_HVM, X86_PV, Check
from xenqemu.formats.stream.libxc_records import (
    RECORD_LIMIT,
    Checkpoint,
    End,
    HvmContext,
    HvmParams,
    OptionalRecord,
    SkippedRecord,
    StaticDataEnd,
    X86CpuidPolicy,
    X86MsrPolicy,
    X86TscInfo,
)
from xenqemu.formats.stream.page_data import BROKEN, XALLOC, XTAB, PageData
from xenqemu.formats.stream.source import Source, bounded
from xenqemu.formats.stream.value import Body, Value

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink

__all__ = [
    "BROKEN",
    "X86_HVM",
    "X86_PV",
    "XALLOC",
    "XTAB",
    "Checkpoint",
    "DomainHeader",
    "End",
    "HvmContext",
    "HvmParams",
    "Image",
    "ImageHeader",
    "ImageWriter",
    "OptionalRecord",
    "PageData",
    "SkippedRecord",
    "StaticDataEnd",
    "X86CpuidPolicy",
    "X86MsrPolicy",
    "X86TscInfo",
    "read",
]

IMAGE_HEADER = struct.Struct(">QIIHHI")
MARKER = 0xFFFFFFFFFFFFFFFF
IDENT = 0x58454E46
BIG_ENDIAN = 1
DOMAIN_HEADER = struct.Struct("<IHHII")
PAGE_SHIFT = 12

ENDS = (Checkpoint, End)
"""The records that a part of an image ends with."""

OnPages = Callable[[PageData, Source], None]
"""Called for each PAGE_DATA; passes over exactly `PageData.data_size` bytes of the source."""


class ImageHeader(Value):
    """Version of the image, 2 or 3."""

    NAME = "image header"
    version: int

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` or `Unsupported` for a header that Xen's readers refuse."""
        marker, ident, version, options, *reserved = body.unpack(IMAGE_HEADER)
        body.require(marker == MARKER, 0, f"the marker {MARKER:#x}", f"{marker:#x}")
        body.require(ident == IDENT, 8, f"the id {IDENT:#x}", f"{ident:#x}")
        if version not in {2, 3}:
            raise Unsupported(body.record, body.offset + 12, "version 2 or 3", str(version))
        if options & BIG_ENDIAN:
            raise Unsupported(body.record, body.offset + 16, "little-endian", "big-endian")
        body.zero(16, options)
        body.zero(18, any(reserved))
        return cls(version)

    def pack(self) -> bytes:
        """Return the 24 bytes."""
        return IMAGE_HEADER.pack(MARKER, IDENT, self.version, 0, 0, 0)


class DomainHeader(Value):
    """Type of the guest, `X86_PV` or `X86_HVM`, and the Xen that wrote it (0: converted)."""

    NAME = "domain header"
    type: int
    xen_major: int
    xen_minor: int

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Raise `BadRecord` or `Unsupported` for a header that Xen's readers refuse."""
        kind, page_shift, reserved, major, minor = body.unpack(DOMAIN_HEADER)
        if kind not in {X86_PV, X86_HVM}:
            expected = "type 1 (x86 PV) or 2 (x86 HVM)"
            raise Unsupported(body.record, body.offset, expected, str(kind))
        body.require(page_shift == PAGE_SHIFT, 4, f"page_shift {PAGE_SHIFT}", page_shift)
        body.zero(6, reserved)
        return cls(kind, major, minor)

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        return DOMAIN_HEADER.pack(self.type, PAGE_SHIFT, 0, self.xen_major, self.xen_minor)


class Image:
    """Reads one image, in as many parts as it has: `part` ends after CHECKPOINT or END.

    `header` and `domain` are known once their records were yielded; `present` are the names of
    the records read so far.  `on_pages` takes the pages, by default it passes over them.
    """

    header: ImageHeader
    domain: DomainHeader

    def __init__(self, on_pages: OnPages = page_data.skip) -> None:
        self._on_pages = on_pages
        self._check: Check | None = None
        self.present: set[str] = set()

    def part(self, source: Source) -> Iterator[Record]:
        """Yield the records up to CHECKPOINT or END, in the first part after the headers.

        PAGE_DATA is yielded when `on_pages` has taken its pages.  Raises `FormatError`.
        """
        if self._check is None:
            yield from self._headers(source)
            converted = not self.domain.xen_major
            self._check = Check(self.header.version, self.domain.type, converted=converted)
        ended = False
        while not ended:
            step = self._record(source, self._check)
            ended = type(step.value) in ENDS
            yield step

    def _headers(self, source: Source) -> Iterator[Record]:
        start = source.offset
        self.header = value.read_bare(source, IMAGE_HEADER.size, LAYER, ImageHeader)
        yield Record(LAYER, ImageHeader.NAME, start, IMAGE_HEADER.size, self.header)
        start = source.offset
        self.domain = value.read_bare(source, DOMAIN_HEADER.size, LAYER, DomainHeader)
        yield Record(LAYER, DomainHeader.NAME, start, DOMAIN_HEADER.size, self.domain)

    def _record(self, source: Source, check: Check) -> Record:
        header = framing.read_header(source, LAYER)
        check.order(header.type, header.offset)
        what = self.body(source, header)
        if header.type in NAMES:
            check.once(what, header.offset)
            self.present.add(what.NAME)
        return Record(LAYER, what.NAME, header.offset, source.offset - header.offset, what)

    def body(self, source: Source, header: RecordHeader) -> Value | PageData | SkippedRecord:
        """Return the contents of a record whose header was read; the order is not checked."""
        if header.type != PageData.TYPE:
            cls = RECORDS.get(header.type, OptionalRecord)
            if cls is OptionalRecord and header.length > cls.LIMIT:
                return _skipped(source, header)
            return value.read(source, header, LAYER, cls)
        pages = page_data.read(source, header)
        self._on_pages(pages, source)
        return pages


def _skipped(source: Source, header: RecordHeader) -> SkippedRecord:
    """Skip an optional record that is too long to be kept."""
    where = f"{LAYER} {SkippedRecord.NAME}"
    bounded(header.length, RECORD_LIMIT, where, header.offset + 4, "a length")
    source.skip(header.length, where)
    framing.read_padding(source, header, where)
    return SkippedRecord(header.type, header.length)


def read(source: Source, on_pages: OnPages = page_data.skip) -> Iterator[Record]:
    """Yield the headers and records of an image up to END (or its first CHECKPOINT)."""
    yield from Image(on_pages).part(source)


class ImageWriter:
    """Writes one image, with the order and the checks of the reader.

    Making it writes the headers.  Each method raises `FormatError` before it writes anything.
    Where `hole` is given, a pfn that the guest does not have, pages are aligned (module `layout`).
    """

    def __init__(
        self, sink: Sink, domain: DomainHeader, version: int = 3, *, hole: int | None = None
    ) -> None:
        headers = (ImageHeader(version), domain)
        sink.writev([value.checked(header, LAYER, sink.offset) for header in headers])
        self._sink = sink
        self._check = Check(version, domain.type, converted=not domain.xen_major)
        self._hole = hole

    @property
    def is_aligned(self) -> bool:
        """Whether each page is put on a multiple of 4096 bytes."""
        return self._hole is not None

    @property
    def has_places(self) -> bool:
        """Whether several threads may write pages at once."""
        return self._sink.has_places

    def write(self, what: Value) -> None:
        """Write any record but PAGE_DATA."""
        offset = self._sink.offset
        body = value.checked(what, LAYER, offset)
        self._check.order(what.kind, offset)
        self._check.once(what, offset)
        framing.write_record(self._sink, what.kind, body)

    def pages(self, pages: PageData, buffers: Sequence[Buffer] = ()) -> None:
        """Write PAGE_DATA; `buffers` as of `page_data.packed`."""
        self.placed(pages, buffers)()

    def placed(self, pages: PageData, buffers: Sequence[Buffer]) -> Callable[[], None]:
        """Give PAGE_DATA its place in the image, and return what writes it there.

        One thread at a time takes a place; any may write, beside others.  Where the sink has no
        places, it is written at once.
        """
        sink = self._sink
        pages = self._next(pages)
        if not sink.has_places:
            page_data.write(sink, pages, buffers)
            return lambda: None
        record = page_data.packed(pages, buffers, sink.offset)
        return partial(sink.fill, sink.take(HEADER.size + pages.body_size), record)

    def without_pages(self, pages: PageData) -> int:
        """Write PAGE_DATA but for its pages; return where in the file others are to put them.

        Only where the sink has places.
        """
        pages = self._next(pages)
        head = page_data.head_of(pages, self._sink.offset)
        size = HEADER.size + pages.body_size
        start = self._sink.take(size)
        self._sink.fill_start(start, head, size)
        return start + len(head)

    def _next(self, pages: PageData) -> PageData:
        """Return `pages` as the next record has them, which may be PAGE_DATA."""
        self._check.order(PageData.TYPE, self._sink.offset)
        return pages if self._hole is None else padded(pages, self._sink.offset, self._hole)
