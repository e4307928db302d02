"""Zero pages, and the tables of entries, against the obvious way to make them."""

import io
import random
import struct
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.formats.stream import page_data
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.memory.pages import (
    BATCH,
    FRAME,
    image_space,
    in_all,
    page_entries,
    page_numbers,
    page_table,
    stretches,
    zero_pages,
)

PAGE = 4096
ZERO = bytes(PAGE)
KINDS = {
    "zero": ZERO,
    "first byte": b"\1" + bytes(PAGE - 1),
    "eighth byte": bytes(7) + b"\1" + bytes(PAGE - 8),
    "second word": bytes(8) + b"\1" + bytes(PAGE - 9),
    "middle": bytes(PAGE // 2) + b"\1" + bytes(PAGE // 2 - 1),
    "last byte": bytes(PAGE - 1) + b"\1",
    "full": bytes(range(256)) * 16,
}

runs = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.integers(1, 20)), min_size=1, max_size=8
)
patterns = st.one_of(
    st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=40),
    runs.map(lambda found: [name for name, count in found for _ in range(count)]),
)


def spans_of_zeros(names):
    """Return the runs of pages of zeros, as long as they are."""
    found, after = [], 0
    for name, group in groupby(names):
        start, after = after, after + len(list(group))
        if name == "zero":
            found.append((start, after))
    return found


@given(patterns)
def test_zero_pages_are_found_and_the_rest_is_in_stretches(names):
    data = memoryview(b"".join(KINDS[name] for name in names))
    zeros = zero_pages(data)
    assert zeros == spans_of_zeros(names)
    assert in_all(zeros) == names.count("zero")
    pieces = list(stretches(data, zeros))
    assert all(pieces)
    assert b"".join(pieces) == b"".join(KINDS[name] for name in names if name != "zero")
    apart = "".join("0" if name == "zero" else "1" for name in names).split("0")
    assert len(pieces) == sum(1 for stretch in apart if stretch)


@given(patterns, st.integers(0, 2**52 - 41))
def test_entries_say_which_pages_have_data(names, pfn):
    zeros = spans_of_zeros(names)
    entries = page_entries(pfn, len(names), zeros)
    expected = [pfn + index | (XALLOC if name == "zero" else 0) for index, name in enumerate(names)]
    assert entries.tolist() == expected
    assert list(PageData.of(entries).entries()) == expected


@pytest.mark.parametrize("first", [0, 1, 0xFFFFF, 0x100000, 2**32 - 5, 2**52 - 1 - BATCH])
def test_page_numbers(first):
    assert page_numbers(first) == struct.pack("<1024Q", *range(first, first + BATCH))


@given(st.lists(st.tuples(st.integers(0, 2**52 - 1), st.integers(0, 15)), max_size=BATCH))
def test_page_table_puts_the_types_in_the_highest_byte(pages):
    pfns = struct.pack(f"<{len(pages)}Q", *(pfn for pfn, _ in pages))
    table = page_table(pfns, bytes(kind << 4 for _, kind in pages))
    assert table == struct.pack(f"<{len(pages)}Q", *(pfn | kind << 60 for pfn, kind in pages))


def test_page_table_of_a_whole_batch():
    types = bytearray(random.Random(1).choices([0, 0xE0, 0xF0], k=BATCH))
    entries = [5 + index | kind << 56 for index, kind in enumerate(types)]
    assert list(PageData(page_table(page_numbers(5), types)).entries()) == entries


@given(st.lists(st.integers(1, 20), max_size=20))
def test_an_image_has_space_however_its_pages_are_spread(records):
    out = io.BytesIO()
    for count in records:
        page_data.write(Sink(out), PageData.of(range(count)), [bytes(count * PAGE)])
    space = image_space(sum(records)) - FRAME
    assert len(out.getvalue()) <= space
    if set(records) == {1}:
        assert len(out.getvalue()) == space - 8 * len(records)  # which is for padding
