"""The framing that both streams share, the tables of order, and the check of values."""

import io
from dataclasses import dataclass
from enum import Enum
from typing import Self

import pytest

from xenqemu.errors import BadRecord, TooBig, Truncated
from xenqemu.formats.stream import framing, value
from xenqemu.formats.stream.framing import Order, RecordHeader
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

FRAMED = [
    (0, b"", "0000000000000000"),
    (0x80000001, b"\x01", "01000080010000000100000000000000"),
    (5, b"12345678", "05000000080000003132333435363738"),
]


@pytest.mark.parametrize(("kind", "body", "expected"), FRAMED)
def test_framing_both_ways(kind, body, expected):
    out = io.BytesIO()
    framing.write_record(Sink(out), kind, body)
    assert out.getvalue().hex() == expected
    source = Source.of(bytes.fromhex(expected))
    header = framing.read_header(source, "libxl")
    assert header == RecordHeader(kind, len(body), 0)
    assert source.exact(len(body), "body") == body
    framing.read_padding(source, header, "r")
    assert source.at_end()


def test_padding_that_is_not_zero():
    source = Source.of(b"\0\0\1")
    with pytest.raises(BadRecord) as caught:
        framing.read_padding(source, RecordHeader(9, 5, 0), "libxc NINE")
    assert caught.value.offset == 0
    assert caught.value.expected == "zero padding"
    assert caught.value.got == "000001"


def test_a_header_that_ends():
    with pytest.raises(Truncated, match="libxc record header at offset 0x0"):
        framing.read_header(Source.of(b"1234567"), "libxc")


class Light(Enum):
    RED = 1
    GREEN = 2


TABLE = {Light.RED: {1: Light.GREEN, 2: Light.RED}}
NAMES = {1: "GO", 2: "WAIT"}


def test_order_follows_its_table():
    order = Order("libxl", TABLE, NAMES, Light.RED)
    order.accept(2, 0)
    assert order.state is Light.RED
    with pytest.raises(BadRecord) as caught:
        order.accept(3, 0x30)
    assert str(caught.value) == ("libxl 0x3 at offset 0x30: expected one of: GO, WAIT, got 0x3")
    assert order.state is Light.RED
    order.accept(1, 8)
    with pytest.raises(BadRecord, match="libxl WAIT at offset 0x10: expected one of: no record"):
        order.accept(2, 16)


@dataclass(frozen=True)
class Tiny(value.Value):
    TYPE = 7
    NAME = "TINY"
    LIMIT = 4
    text: str

    @classmethod
    def parse(cls, body: value.Body) -> Self:
        return cls(body.data.decode().lower())

    def pack(self) -> bytes:
        return self.text.encode()


def test_what_is_written_was_read_back():
    assert value.checked(Tiny("abc"), "test", 0) == b"abc"
    with pytest.raises(TooBig, match="test TINY at offset 0x9: expected a length of at most 4"):
        value.checked(Tiny("abcde"), "test", 9)
    with pytest.raises(BadRecord, match="reads back the same, got Tiny"):
        value.checked(Tiny("ABC"), "test", 9)
    with pytest.raises(BadRecord, match="fit their places"):
        value.checked(Tiny("\ud800"), "test", 9)


def test_a_length_above_the_bound_of_its_type():
    with pytest.raises(TooBig) as caught:
        value.read(Source.of(b"x" * 8), RecordHeader(7, 5, 0x20), "test", Tiny)
    assert caught.value.offset == 0x24
    got = value.read(Source.of(b"abc" + bytes(5)), RecordHeader(7, 3, 0), "test", Tiny)
    assert got == Tiny("abc")
    assert got.kind == 7


def test_body_says_where_a_field_is_wrong():
    body = value.Body("libxc X", 1, 0x100, b"1234")
    with pytest.raises(BadRecord) as caught:
        body.zero(4, 0xAB)
    assert (caught.value.offset, caught.value.got) == (0x104, "0xab")
    with pytest.raises(BadRecord, match="a body of 5 bytes, got 4 bytes"):
        body.sized(5)
    with pytest.raises(BadRecord, match="at least 8 bytes, got 4 bytes"):
        body.head(framing.HEADER)
