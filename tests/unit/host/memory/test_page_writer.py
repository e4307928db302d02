"""Windows as records: their own, or shared where they have few pages with data."""

import io
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import strategies as made
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.memory.page_writer import FEW, MOST_ENTRIES, PageWriter
from xenqemu.host.memory.pages import BATCH, WINDOW, image_space

PAGE = 4096
HOLE = 1 << 30


def image(windows, *, hole=HOLE, flush_after=()):
    """Return an image of windows, each with so many pages of data and of zeros."""
    out = io.BytesIO()
    writer = libxc.ImageWriter(Sink(out), made.DOMAIN, hole=hole)
    made.put(writer, (libxc.StaticDataEnd(),))
    pages = PageWriter(writer)
    buffer = bytearray(WINDOW)
    for number, (data, zeros) in enumerate(windows):
        first = number * BATCH
        entries = [first + n for n in range(data)]
        entries += [XALLOC | first + data + n for n in range(zeros)]
        buffer[: data * PAGE] = bytes([number % 255 + 1]) * (data * PAGE)
        pages.write(PageData.of(entries), [memoryview(buffer)[: data * PAGE]])
        buffer[:] = bytes(WINDOW)  # it may be used again
        if number in flush_after:
            pages.flush()
    pages.flush()
    made.put(writer, (libxc.End(),))
    return out.getvalue()


def read(data):
    """Return the pages of an image in their order, and the table of each record."""
    pages, tables = {}, []

    def take(table, source):
        tables.append(table)
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages):
                assert pfn not in pages
                pages[pfn] = source.exact(PAGE, "a page") if run.has_data else None

    for _ in libxc.read(Source.of(data), take):
        pass
    return pages, tables


def expected(windows):
    return {
        number * BATCH + n: bytes([number % 255 + 1]) * PAGE if n < data else None
        for number, (data, zeros) in enumerate(windows)
        for n in range(data + zeros)
    }


windows = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 255, 256, 512]), st.sampled_from([0, 1, 500, 512])),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(windows, st.sampled_from([HOLE, None]), st.sets(st.integers(0, 12)))
def test_all_pages_are_written_once_and_fit(some, hole, flush_after):
    data = image(some, hole=hole, flush_after=flush_after)
    assert read(data)[0] == expected(some)
    pages, zeros = sum(data for data, _ in some), sum(zeros for _, zeros in some)
    assert len(data) <= image_space(pages, zeros)


def test_as_xl_writes_each_window_is_a_record():
    some = [(1, 0), (1024, 0), (0, 1024), (0, 0), (3, 5)]
    assert [table.count for table in read(image(some, hole=None))[1]] == [1, 1024, 1024, 8]


def test_windows_with_much_data_have_records_of_their_own():
    some = [(FEW // PAGE, 10), (1024, 0), (5, 6), (1000, 24)]
    counts = [table.count - table.padding for table in read(image(some))[1]]
    assert counts == [FEW // PAGE + 10, 1024, 1024, 11]


def test_windows_with_few_pages_share_a_record():
    _, tables = read(image([(200, 0)] * 12))
    assert [table.data_size // PAGE for table in tables] == [1000, 1000, 400]


def test_windows_of_zeros_share_a_record():
    _, tables = read(image([(0, 1024)] * 40))
    assert [table.count - table.padding for table in tables] == [31 * 1024, 9 * 1024]
    assert all(table.count <= MOST_ENTRIES for table in tables)


def test_what_is_kept_goes_out_before_what_comes_after_a_flush():
    some = [(2, 0), (1024, 0), (3, 0)]
    order = [pfn // BATCH for pfn in read(image(some, flush_after=(0,)))[0]]
    assert order == sorted(order)


@pytest.mark.parametrize(("processors", "threads"), [(1, 1), (2, 2), (8, 2)])
def test_so_many_threads_where_the_image_has_places(monkeypatch, tmp_path, processors, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))

    def of(file):
        return PageWriter(libxc.ImageWriter(Sink(file), made.DOMAIN)).threads

    assert of(io.BytesIO()) == 1
    with (tmp_path / "image").open("wb", buffering=0) as file:
        assert of(file) == threads
    with (tmp_path / "image").open("ab", buffering=0) as file:
        assert of(file) == 1
    reading, writing = os.pipe()
    with open(writing, "wb", buffering=0) as file:
        assert of(file) == 1
    os.close(reading)


def test_threads_beside_each_other(tmp_path):
    """Whatever their order is, each page is where its entry says."""
    with (tmp_path / "image").open("w+b", buffering=0) as file:
        writer = libxc.ImageWriter(Sink(file), made.DOMAIN, hole=HOLE)
        made.put(writer, (libxc.StaticDataEnd(),))
        pages = PageWriter(writer)

        def write(start):
            for number in range(start, 64, 4):
                data = 300 if number % 3 else 7
                entries = range(number * BATCH, number * BATCH + data)
                buffer = bytes([number + 1]) * (data * PAGE)
                pages.write(PageData.of(entries), [buffer])

        threads = [threading.Thread(target=write, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pages.flush()
        made.put(writer, (libxc.End(),))
        file.seek(0)
        found, _ = read(file.read())
    assert len(found) == sum(300 if number % 3 else 7 for number in range(64))
    assert all(page == bytes([pfn // BATCH + 1]) * PAGE for pfn, page in found.items())
