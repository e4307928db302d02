"""The xl header: JSON, cfg text, none; flags; bounds."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.strategies import CONFIG, dribbled
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated, Unsupported
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.xl import XlHeader


def header(
    data: bytes, *, magic=xl.MAGIC, order=0x01020304, flags=3, optional=0, length=None
) -> bytes:
    size = len(data) if length is None else length
    return magic + struct.pack("<4I", order, flags, optional, size) + data


def config(text: bytes, tail: bytes = b"") -> bytes:
    return struct.pack("<I", len(text)) + text + tail


PAIRS = [
    (XlHeader(3, b"{}\0"), header(config(b"{}\0"))),
    (XlHeader(3, b'{"a": 1}\0', b"our tail"), header(config(b'{"a": 1}\0', b"our tail"))),
    (XlHeader(2, b"name='x'\n"), header(config(b"name='x'\n"), flags=2)),
    (XlHeader(0, b"name='\xe4'\n"), header(config(b"name='\xe4'\n"), flags=0)),
    (XlHeader(2, b""), header(config(b""), flags=2)),
    (XlHeader(2, b"", b"tail"), header(config(b"", b"tail"), flags=2)),
    (XlHeader(2, None), header(b"", flags=2)),
]


@pytest.mark.parametrize(("value", "data"), PAIRS)
def test_a_header_and_its_bytes(value, data):
    out = io.BytesIO()
    xl.write(Sink(out), value)
    assert out.getvalue() == data
    for source in (Source.of(data + b"more"), dribbled(data + b"more")):
        step = xl.read(source)
        assert step.value == value
        assert (step.layer, step.name, step.offset, step.size) == ("xl", "header", 0, len(data))
        assert source.exact(4, "what follows") == b"more"


def test_what_a_header_says():
    value = XlHeader.of_json(CONFIG)
    assert value.json() == {"c_info": {"type": "hvm", "name": "sample"}}
    assert value.is_json
    assert not value.is_legacy
    assert value.config == CONFIG.encode() + b"\0"
    assert XlHeader(1, b"{}\0").is_legacy
    assert not XlHeader(2, None).is_json
    assert XlHeader(2, None).json() == {}


BAD = [
    (header(b"", magic=b"Xen saved domain, xl format\n \0 \n"), BadRecord, 0),
    (header(b"", order=0x04030201), Unsupported, 32),
    (header(b"", order=5), BadRecord, 32),
    (header(b"", flags=6), Unsupported, 36),
    (header(b"", flags=2, optional=1), Unsupported, 40),
    (header(b"", length=xl.OPTIONAL_DATA_LIMIT + 1), TooBig, 44),
    (header(b"123", flags=2), BadRecord, 44),
    (header(struct.pack("<I", xl.CONFIG_LIMIT + 1)), TooBig, 48),
    (header(struct.pack("<I", 9) + b"12345678", flags=2), BadRecord, 48),
    (header(config(b"")), BadRecord, 52),
    (header(b""), BadRecord, 48),
    (header(config(b"{}")), BadRecord, 52),
    (header(config(b"{}\0\0")), BadRecord, 52),
    (header(config(b"[]\0")), BadRecord, 52),
    (header(config(b"{\0")), BadRecord, 52),
    (header(config(b'{"a": NaN}\0')), BadRecord, 52),
    (header(config(b'{"a": "\xff"}\0')), BadRecord, 52),
    (header(config(b'{"a": ' + b"9" * 5000 + b"}\0")), BadRecord, 52),
    (header(config(b'{"a": ' + b"[" * 200_000 + b"\0")), BadRecord, 52),
    (header(config(b'{"a": ' + b'{"b":' * 200_000 + b"\0")), BadRecord, 52),
]


@pytest.mark.parametrize(("data", "error", "offset"), BAD)
def test_what_is_refused(data, error, offset):
    with pytest.raises(error) as caught:
        xl.read(Source.of(data))
    assert type(caught.value) is error
    assert caught.value.offset == offset


def test_cut_at_every_offset():
    whole = PAIRS[1][1]
    for size in range(len(whole)):
        for source in (Source.of(whole[:size]), dribbled(whole[:size], 7)):
            with pytest.raises(Truncated):
                xl.read(source)


@pytest.mark.parametrize(
    "value",
    [
        XlHeader(4, None),
        XlHeader(3, b"{}"),
        XlHeader(2, None, b"tail"),
        XlHeader(-1, None),
        XlHeader(2, b"", bytes(xl.OPTIONAL_DATA_LIMIT)),
    ],
)
def test_the_writer_refuses_what_the_reader_does(value):
    out = io.BytesIO()
    with pytest.raises(FormatError):
        xl.write(Sink(out), value)
    assert out.getvalue() == b""


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(0, 3))
def test_any_optional_data(data, flags):
    whole = header(data, flags=flags)
    try:
        value = xl.read(Source.of(whole)).value
    except FormatError:
        return
    out = io.BytesIO()
    xl.write(Sink(out), value)
    assert out.getvalue() == whole
