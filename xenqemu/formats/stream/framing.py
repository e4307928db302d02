"""The framing that libxl's and libxc's streams share.

::

    u32 type, u32 length      byte order of the saving host: little-endian on x86
    length bytes of body
    zero bytes up to a multiple of 8

`length` does not count the padding.  Every number here is little-endian on purpose; a stream
that says it is big-endian is refused by its header.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from xenqemu.errors import BadRecord
from xenqemu.formats.stream.source import Source

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink

HEADER = struct.Struct("<II")
ALIGN = 8


class RecordHeader(NamedTuple):
    """Type and body length (bytes, unpadded) of a record, and the offset where it starts."""

    type: int
    length: int
    offset: int

    @property
    def padding(self) -> int:
        """Bytes of zeros after the body."""
        return padding(self.length)


class Record(NamedTuple):
    """What a reader found: `size` bytes at `offset`, header and padding included.

    `layer` is "xl", "libxl" or "libxc", `name` the specification's own, `value` its contents.
    """

    layer: str
    name: str
    offset: int
    size: int
    value: object


class Order:
    """Which record may follow which: a table state -> type -> next state, and where we are."""

    def __init__(
        self,
        layer: str,
        table: Mapping[Enum, Mapping[int, Enum]],
        names: Mapping[int, str],
        state: Enum,
    ) -> None:
        self._layer = layer
        self._table = table
        self._names = names
        self.state = state

    def accept(self, kind: int, offset: int) -> None:
        """Step over a record of type `kind`; raise `BadRecord`, and stay, where it is illegal."""
        row = self._table.get(self.state, {})
        if kind not in row:
            allowed = ", ".join(self._names[legal] for legal in row) or "no record"
            name = self._names.get(kind, f"{kind:#x}")
            raise BadRecord(f"{self._layer} {name}", offset, f"one of: {allowed}", name)
        self.state = row[kind]


def padding(length: int) -> int:
    """Return how many zero bytes follow a body of `length` bytes."""
    return -length % ALIGN


def read_header(source: Source, layer: str) -> RecordHeader:
    """Read the 8 bytes before a body; `layer` ("libxl", "libxc") names the stream in errors."""
    offset = source.offset
    kind, length = HEADER.unpack(source.exact(HEADER.size, f"{layer} record header"))
    return RecordHeader(kind, length, offset)


def read_padding(source: Source, header: RecordHeader, record: str) -> None:
    """Skip the zeros after a body; raise `BadRecord` if they are not zeros."""
    if not header.padding:
        return
    offset = source.offset
    zeros = source.exact(header.padding, f"{record} padding")
    if any(zeros):
        raise BadRecord(record, offset, "zero padding", zeros.hex())


def write_record(sink: Sink, kind: int, body: bytes) -> None:
    """Write a record whose body is in memory."""
    sink.writev([HEADER.pack(kind, len(body)), body, bytes(padding(len(body)))])
