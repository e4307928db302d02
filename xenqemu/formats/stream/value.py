"""The contents of a record: an immutable value, its body in bytes, and one check for both ways.

::

    bytes -> Body -> Value.parse -> value           reading: parse raises what is wrong
    value -> Value.pack -> bytes -> Value.parse     writing: the reader must return it

A value that its own reader would refuse is thus never written.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, TypeVar

from xenqemu.errors import BadRecord
from xenqemu.formats.stream import framing
from xenqemu.formats.stream.framing import RecordHeader
from xenqemu.formats.stream.source import Source, bounded
from xenqemu.frozen import Frozen


class Body(Frozen):
    """The bytes of one body, and their offset, for errors."""

    record: str
    type: int
    offset: int
    data: bytes

    def bad(self, at: int, expected: str, got: object) -> BadRecord:
        """Return the error that the field `at` bytes into the body is not as `expected`."""
        return BadRecord(self.record, self.offset + at, expected, str(got))

    def require(self, good: bool, at: int, expected: str, got: object) -> None:
        """Raise `BadRecord` unless `good`."""
        if not good:
            raise self.bad(at, expected, got)

    def sized(self, size: int) -> None:
        """Raise `BadRecord` unless the body has exactly `size` bytes."""
        good = len(self.data) == size
        self.require(good, 0, f"a body of {size} bytes", f"{len(self.data)} bytes")

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields of a body that is all of `layout`."""
        self.sized(layout.size)
        return layout.unpack(self.data)

    def head(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields that the body begins with."""
        got = len(self.data)
        self.require(got >= layout.size, 0, f"at least {layout.size} bytes", f"{got} bytes")
        return layout.unpack_from(self.data)

    def zero(self, at: int, reserved: int) -> None:
        """Raise `BadRecord` unless the reserved field `at` bytes into the body is zero."""
        self.require(not reserved, at, "zero in a reserved field", f"{reserved:#x}")


class Value(Frozen, ABC):
    """Base of the contents of records and headers.

    `TYPE` is in the record's header (the headers of streams have none), `NAME` is the
    specification's, `LIMIT` bounds the body in bytes before it is read.
    """

    TYPE: ClassVar[int] = -1
    NAME: ClassVar[str]
    LIMIT: ClassVar[int] = 1 << 20

    @classmethod
    @abstractmethod
    def parse(cls, body: Body) -> Self:
        """Return the value of `body`; raise `FormatError` where it has none."""

    @abstractmethod
    def pack(self) -> bytes:
        """Return the body, without its padding."""

    @property
    def kind(self) -> int:
        """The type that the record's header names."""
        return self.TYPE


class Empty(Value):
    """A record without a body: of one class, all are equal."""

    @classmethod
    def parse(cls, body: Body) -> Self:
        """Return the value; the body is empty."""
        body.sized(0)
        return cls()

    def pack(self) -> bytes:
        """Return no bytes."""
        return b""


V = TypeVar("V", bound=Value)


def read(source: Source, header: RecordHeader, layer: str, cls: type[V]) -> V:
    """Read body and padding of a record whose header was just read, as a `cls`."""
    where = f"{layer} {cls.NAME}"
    bounded(header.length, cls.LIMIT, where, header.offset + 4, "a length")
    body = Body(where, header.type, source.offset, source.exact(header.length, where))
    framing.read_padding(source, header, where)
    return cls.parse(body)


def read_bare(source: Source, size: int, layer: str, cls: type[V]) -> V:
    """Read a `cls` of `size` bytes that is in no record."""
    offset = source.offset
    where = f"{layer} {cls.NAME}"
    return cls.parse(Body(where, cls.TYPE, offset, source.exact(size, where)))


def checked(value: Value, layer: str, offset: int) -> bytes:
    """Return the body of `value` as its reader accepts it, to be written at `offset`.

    Raises `FormatError` if the reader would refuse it or read something else.
    """
    where = f"{layer} {value.NAME}"
    try:
        data = value.pack()
    except (struct.error, UnicodeError) as error:
        raise BadRecord(where, offset, "fields that fit their places", str(error)) from error
    bounded(len(data), value.LIMIT, where, offset, "a length")
    again = value.parse(Body(where, value.kind, offset, data))
    if again != value:
        raise BadRecord(where, offset, "a value that reads back the same", repr(value)[:80])
    return data
