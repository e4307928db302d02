"""PAGE_DATA: which pages, how many bytes, runs, what is refused, nothing copied."""

import io
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.strategies import MIXED, PAGE, Dribble, entries
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated
from xenqemu.formats.stream import framing, page_data
from xenqemu.formats.stream.libxc_records import RECORD_LIMIT
from xenqemu.formats.stream.page_data import (
    BROKEN,
    MAX_ENTRIES,
    XALLOC,
    XTAB,
    PageData,
    Run,
    consecutive,
)
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

PINNED_L4 = 0xC << 60


def framed(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<II", 1, len(body) if length is None else length) + body


def body(*numbers: int, count: int | None = None, reserved: int = 0, data: bytes = b"") -> bytes:
    size = len(numbers) if count is None else count
    return struct.pack(f"<II{len(numbers)}Q", size, reserved, *numbers) + data


def read(data: bytes) -> PageData:
    source = Source.of(data)
    return page_data.read(source, framing.read_header(source, "libxc"))


def test_a_record_of_all_types_of_pages_and_its_bytes():
    value, buffers = MIXED
    out = io.BytesIO()
    page_data.write(Sink(out), value, buffers)
    expected = body(1, XALLOC | 2, 3, XTAB | 4, BROKEN | 5, data=PAGE * 2)
    assert out.getvalue() == framed(expected)
    source = Source.of(out.getvalue())
    found = page_data.read(source, framing.read_header(source, "libxc"))
    assert found == value
    assert (found.count, found.data_size, found.body_size) == (5, 8192, 8 + 40 + 8192)
    page_data.skip(found, source)
    assert source.at_end()


def test_pages_in_any_pieces():
    value = PageData.of(range(5))
    pieces = [bytearray(PAGE), memoryview(PAGE * 3), PAGE[:1], PAGE[1:]]
    out = io.BytesIO()
    page_data.write(Sink(out), value, pieces)
    assert out.getvalue() == framed(body(*range(5), data=PAGE * 5))


RUNS = [
    ([5], [Run(0, 5, 1)]),
    ([5, 6, 7, 9], [Run(0, 5, 3), Run(0, 9, 1)]),
    ([0, 1, XALLOC | 2, XALLOC | 3, 4], [Run(0, 0, 2), Run(XALLOC, 2, 2), Run(0, 4, 1)]),
    ([7, 6, 6], [Run(0, 7, 1), Run(0, 6, 1), Run(0, 6, 1)]),
    ([PINNED_L4 | 8, 9], [Run(PINNED_L4, 8, 1), Run(0, 9, 1)]),
    ([], []),
]


@pytest.mark.parametrize(("numbers", "runs"), RUNS)
def test_pages_of_one_type_side_by_side_are_one_run(numbers, runs):
    value = PageData.of(numbers)
    assert list(value.runs()) == runs
    assert list(value.entries()) == numbers


@pytest.mark.parametrize("kind", range(16))
def test_which_types_have_data(kind):
    value = PageData.of([kind << 60 | 1])
    if kind in range(5, 9):
        with pytest.raises(BadRecord, match="a type of 0-4 or 9-F"):
            value.check(0)
        return
    value.check(0)
    (run,) = value.runs()
    assert run.has_data == (kind < 0xD)
    assert value.data_size == (4096 if kind < 0xD else 0)


BAD = [
    (framed(b""), BadRecord, 4, "a body of 8 bytes or more"),
    (framed(b"1234567"), BadRecord, 4, "a body of 8 bytes or more"),
    (framed(body()), BadRecord, 16, "one or more entries"),
    (framed(body(1, reserved=7, data=PAGE)), BadRecord, 12, "zero in a reserved field"),
    (framed(body(1, count=3, data=bytes(8))), TooBig, 8, "a count of at most 2"),
    (framed(body(XTAB, count=2**32 - 1)), TooBig, 8, "a count of at most 1"),
    (framed(b"", 2**32 - 1), TooBig, 4, "a length of at most"),
    (framed(b"", RECORD_LIMIT + 8), TooBig, 4, "a length of at most"),
    (framed(body(1, 5 << 60 | 1)), BadRecord, 24, "a type of"),
    (framed(body(1, 2, 1 << 52)), BadRecord, 32, "bits 52-59 zero"),
    (framed(body(1 << 59)), BadRecord, 16, "bits 52-59 zero"),
    (framed(body(1, data=PAGE[1:])), BadRecord, 4, "a body of 4112 bytes"),
    (framed(body(1, data=PAGE + PAGE)), BadRecord, 4, "a body of 4112 bytes"),
    (framed(body(XALLOC | 1, data=PAGE)), BadRecord, 4, "a body of 16 bytes"),
]


@pytest.mark.parametrize(("data", "error", "offset", "expected"), BAD)
def test_what_is_refused(data, error, offset, expected):
    with pytest.raises(error) as caught:
        read(data)
    assert type(caught.value) is error
    assert caught.value.offset == offset
    assert expected in caught.value.expected
    assert caught.value.record == "libxc PAGE_DATA"


@pytest.mark.parametrize(
    ("value", "buffers"),
    [
        (PageData.of([1]), []),
        (PageData.of([1]), [PAGE, b"x"]),
        (PageData.of([XALLOC | 1]), [PAGE]),
        (PageData.of([]), []),
        (PageData(b"1234567"), []),
        (PageData.of([6 << 60]), [PAGE]),
        (PageData(bytes(8 * 33000)), []),
    ],
)
def test_the_writer_refuses_what_the_reader_does(value, buffers):
    out = io.BytesIO()
    with pytest.raises(FormatError):
        page_data.write(Sink(out), value, buffers)
    assert out.getvalue() == b""


def test_cut_at_every_offset():
    whole = framed(body(1, XALLOC | 2, data=PAGE))
    for size in range(len(whole)):
        source = Source.of(whole[:size])
        with pytest.raises(Truncated) as caught:
            page_data.skip(page_data.read(source, framing.read_header(source, "libxc")), source)
        assert caught.value.offset <= size


@settings(deadline=None)
@given(entries)
def test_any_legal_entries(numbers):
    value = PageData.of(numbers)
    value.check(0)
    plain = [entry for entry in numbers if entry >> 60 < 0xD]
    assert value.data_size == 4096 * len(plain)
    pages = [run.type | run.pfn + each for run in value.runs() for each in range(run.pages)]
    assert pages == numbers[: len(numbers) - value.padding]
    same = numbers[-1] >> 60 == 0xF and numbers[-1:] * value.padding
    assert (same or []) == numbers[len(numbers) - value.padding :]


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes(data):
    try:
        found = read(framed(data))
    except FormatError:
        return
    assert found.body_size == len(data)


def test_more_entries_than_any_writer_has_are_refused():
    table = XALLOC.to_bytes(8, "little") * (MAX_ENTRIES + 1)
    source = Source.of(framed(struct.pack("<II", MAX_ENTRIES + 1, 0) + table))
    with pytest.raises(TooBig, match=f"a count of at most {MAX_ENTRIES}"):
        page_data.read(source, framing.read_header(source, "libxc"))
    with pytest.raises(TooBig, match=f"a count of at most {MAX_ENTRIES}"):
        page_data.write(Sink(io.BytesIO()), PageData(table), ())


def test_the_longest_record_from_a_pipe_stays_within_twice_its_size():
    count = MAX_ENTRIES
    table = XALLOC.to_bytes(8, "little") * count
    source = Source(Dribble(framed(struct.pack("<II", count, 0) + table), 60_000))
    del table
    tracemalloc.start()
    found = page_data.read(source, framing.read_header(source, "libxc"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.count == count
    assert peak < 2 * 8 * MAX_ENTRIES + (4 << 20)


@given(
    first=st.integers(0, (1 << 64) - 1 - 70000)
    | st.sampled_from([0, 255, 65535, (1 << 24) - 3, XALLOC | (1 << 52) - 70000]),
    count=st.integers(1, 1030) | st.just(66000),
)
def test_consecutive_entries(first, count):
    expected = struct.pack(f"<{count}Q", *range(first, first + count))
    assert consecutive(first, count) == expected
