"""Finds the records of a save file, or of an image alone, in bytes that are pushed through it.

Where a reader asks for bytes, this is given them in any parts, by whoever passes them on: to a
pipe, to xl, to a digest.  It checks nothing: what is damaged is found by a reader, or by digests.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Protocol

from xenqemu.formats.stream import libxl_records, xl
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.framing import HEADER, padding
from xenqemu.formats.stream.libxc import DOMAIN_HEADER, IMAGE_HEADER
from xenqemu.formats.stream.libxc_order import NAMES as LIBXC
from xenqemu.formats.stream.libxc_records import End as ImageEnd
from xenqemu.formats.stream.libxc_records import OptionalRecord
from xenqemu.formats.stream.libxl_records import NAMES as LIBXL
from xenqemu.formats.stream.page_data import COUNT, ENTRY, MAX_ENTRIES, PageData

PAGES = f"libxc {PageData.NAME}"
OPTIONAL_LENGTH = struct.Struct("<I")


class Passing(Protocol):
    """What is told of bytes that pass."""

    def passes(self, data: Buffer) -> None:
        """Take the next bytes."""

    def begins(self, name: str, size: int) -> None:
        """Hear of a record of `size` bytes, whose bytes come next; "" where the file has ended."""

    def pages(self, pages: PageData) -> None:
        """Hear what the PAGE_DATA record that passes now has; its entries have passed."""


class RecordScan:
    """Passes bytes on to `to`, and tells it of the records among them.

    With `image`, it is a libxc image alone.
    """

    def __init__(self, to: Passing, *, image: bool = False) -> None:
        self._to = to
        self._steps = self._image() if image else self._save_file()
        self._kept = bytearray()
        self._wanted = next(self._steps)

    def feed(self, data: Buffer) -> None:
        """Take more bytes."""
        rest = memoryview(data).cast("B")
        while rest:
            if self._wanted > 0:
                part = rest[: self._wanted - len(self._kept)]
                self._kept += part
                if len(self._kept) == self._wanted:
                    kept, self._kept = bytes(self._kept), bytearray()
                    self._wanted = self._steps.send(kept)
            else:
                part = rest[: -self._wanted]
                self._to.passes(part)
                self._wanted += len(part)
                if not self._wanted:
                    self._wanted = next(self._steps)
            rest = rest[len(part) :]

    def _save_file(self) -> Generator[int, bytes, None]:
        """Yield how many bytes are wanted; below zero, how many are only passed on."""
        head = yield xl.HEADER.size
        (length,) = OPTIONAL_LENGTH.unpack_from(head, 44)
        yield from self._record("xl header", head, length)
        head = yield libxl_records.HEADER.size
        yield from self._record("libxl header", head, 0)
        kind = None
        while kind != libxl_records.End.TYPE:
            head = yield HEADER.size
            kind, length = HEADER.unpack(head)
            name = f"libxl {LIBXL.get(kind, 'record')}"
            yield from self._record(name, head, length + padding(length))
            if kind == libxl_records.LibxcContext.TYPE:
                yield from self._image(then_more=True)
        self._to.begins("", 0)
        while True:
            yield -(1 << 62)

    def _image(self, *, then_more: bool = False) -> Generator[int, bytes, None]:
        head = yield IMAGE_HEADER.size
        yield from self._record("libxc image header", head, 0)
        head = yield DOMAIN_HEADER.size
        yield from self._record("libxc domain header", head, 0)
        kind = None
        while kind != ImageEnd.TYPE:
            head = yield HEADER.size
            kind, length = HEADER.unpack(head)
            if kind == PageData.TYPE:
                yield from self._pages(head, length)
            else:
                name = f"libxc {LIBXC.get(kind, OptionalRecord.NAME)}"
                yield from self._record(name, head, length + padding(length))
        while not then_more:
            yield -(1 << 62)

    def _record(self, name: str, head: bytes, rest: int) -> Generator[int, bytes, None]:
        self._to.begins(name, len(head) + rest)
        self._to.passes(head)
        if rest:
            yield -rest

    def _pages(self, head: bytes, length: int) -> Generator[int, bytes, None]:
        self._to.begins(PAGES, HEADER.size + length)
        self._to.passes(head)
        length += padding(length)
        if length >= COUNT.size:
            counted = yield COUNT.size
            self._to.passes(counted)
            length -= COUNT.size
            count = COUNT.unpack(counted)[0]
            if 0 < count <= min(MAX_ENTRIES, length // ENTRY.size):
                table = yield count * ENTRY.size
                self._to.passes(table)
                length -= len(table)
                self._to.pages(PageData(table))
        if length:
            yield -length
