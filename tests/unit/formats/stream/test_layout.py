"""Pages on multiples of 4096: whatever the records are, and seen by no reader."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import strategies as made
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.layout import padded, tail_for
from xenqemu.formats.stream.page_data import XALLOC, XTAB, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

HOLE = 0xFF000


@pytest.mark.parametrize("count", [1, 2, 509, 510, 511, 1023, 1024, 1534, 32766])
@pytest.mark.parametrize("offset", [0, 4096, 8, 4088])
def test_the_first_page_of_a_record(count, offset):
    pages = PageData.of(range(count))
    found = padded(pages, offset, HOLE)
    assert (offset + 16 + 8 * found.count) % 4096 == 0
    assert found.table.startswith(pages.table)
    assert found.count - count <= 513
    assert found.padding == found.count - count != 1
    assert set(list(found.entries())[count:]) <= {XTAB | HOLE}
    assert list(found.runs()) == list(pages.runs())
    if not offset % 4096:
        assert found.count % 512 == 510


def test_a_hole_that_libxc_names_is_one():
    assert PageData.of([1, XTAB | HOLE]).padding == 0
    assert PageData.of([XTAB | HOLE - 1, XTAB | HOLE]).padding == 0
    assert PageData.of([HOLE, HOLE]).padding == 0
    assert PageData.of([XTAB | HOLE] * 600).padding == 513


@given(st.integers(0, 1 << 20))
def test_the_tail(size):
    assert (size + len(tail_for(size))) % 4096 == 0
    assert len(tail_for(size)) < 4096


records = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 600)), min_size=1, max_size=5)


@settings(max_examples=50, deadline=None)
@given(records)
def test_every_page_of_an_image_is_aligned_and_all_are_read(counts):
    out = io.BytesIO(bytes(4096 - 56))
    out.seek(0, io.SEEK_END)
    sink = Sink(out, align_pages=True)
    sink.offset = out.tell()
    writer = libxc.ImageWriter(sink, made.DOMAIN, hole=HOLE)
    made.put(writer, (libxc.StaticDataEnd(),))
    written, number = [], 0
    for data, zeros in counts:
        if data + zeros:
            plain = range(number, number + data)
            number += data + zeros
            entries = [*plain, *(XALLOC | pfn for pfn in range(plain.stop, number))]
            writer.pages(PageData.of(entries), [bytes([pfn % 256]) * 4096 for pfn in plain])
            written += entries
    made.put(writer, (libxc.End(),))
    found = []

    def take(pages, source):
        assert source.offset % 4096 == 0
        for run in pages.runs():
            for pfn in range(run.pfn, run.pfn + run.pages):
                found.append(run.type | pfn)
                if run.has_data:
                    assert source.exact(4096, "a page") == bytes([pfn % 256]) * 4096

    out.seek(4096 - 56)
    for _ in libxc.read(Source(out, 4096 - 56), take):
        pass
    assert found == written
