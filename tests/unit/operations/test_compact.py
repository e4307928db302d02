"""A save file without superseded pages: the same guest, each page once, or as it was."""

import io

import pytest

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.parties import Memory
from tests.doubles.in_memory.save_files import DEVICES, STEPS, device_state, save_file
from tests.doubles.in_memory.world import World
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.libxc import ImageWriter
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.source import Source
from xenqemu.operations.compact import compact
from xenqemu.operations.inspect import read_contents
from xenqemu.operations.save_file import write_save_file
from xenqemu.operations.verify import verify

ONE, TWO = b"1" * 4096, b"2" * 4096


@pytest.fixture
def compacted(tmp_path):
    """Return the compacted save file, and the progress that was reported."""

    def run(data):
        (tmp_path / "whole").write_bytes(data)
        told = []
        with (
            (tmp_path / "whole").open("rb") as whole,
            (tmp_path / "less").open("wb", buffering=0) as less,
        ):
            compact(whole, less, lambda *step: told.append(step))
        return (tmp_path / "less").read_bytes(), told

    return run


def test_pages_that_were_replaced_are_gone(compacted):
    head, tail = STEPS[:3], STEPS[4:]
    iterations = [
        (PageData.of([5, 6, 9]), [ONE * 3]),
        (PageData.of([6, 7]), [TWO * 2]),
        (PageData.of([7]), [ONE]),
    ]
    less = [(PageData.of([5, 9]), [ONE * 2]), (PageData.of([6]), [TWO]), iterations[2]]
    data = save_file(steps=(*head, *iterations, *tail))
    smaller, told = compacted(data)
    assert smaller == save_file(steps=(*head, *less, *tail))
    assert told[-1] == (len(data), len(data))
    assert verify(io.BytesIO(smaller)).pages.data == 4


def test_a_record_of_which_nothing_is_left(compacted):
    head, tail = STEPS[:3], STEPS[4:]
    again = (PageData.of([5, 6, 7]), [TWO * 3])
    data = save_file(steps=(*head, (PageData.of([6]), [ONE]), again, *tail))
    assert compacted(data)[0] == save_file(steps=(*head, again, *tail))


def test_what_is_aligned_stays_so(compacted):
    guest = Guest.running()
    guest.suspended, guest.devices_run = True, False
    memory, out = Memory(World(), guest), io.BytesIO()

    def image(sink):
        writer = ImageWriter(sink, made.DOMAIN, hole=0xFF000)
        made.put(writer, (made.CPUID, made.MSRS, libxc.StaticDataEnd()))
        writer.pages(PageData.of([5, 6, 9]), [ONE * 3])
        writer.pages(PageData.of([*range(20, 700), 6]), [TWO * 681])
        writer.pages(PageData.of([9, 20]), [TWO * 2])
        made.put(writer, (made.TSC, made.CONTEXT, made.PARAMS, libxc.End()))
        return device_state()

    before = memory.size_before_pages()
    write_save_file(out, guest.config, image, size_before_pages=before)
    smaller, _ = compacted(out.getvalue())
    assert memory_of(smaller) == memory_of(out.getvalue())
    places = []

    def take(table, source):
        places.append((source.offset, table.count))
        source.skip(table.data_size, "pages")

    for _ in Walk(Source.of(smaller), take):
        pass
    assert [place % 4096 for place, _ in places] == [0, 0, 0]
    assert [count for _, count in places] == [510, 1022, 510]
    found = read_contents(Source.of(smaller)).pages
    assert (found.data, found.zero, found.other) == (len(memory_of(smaller)), 0, 0)


@pytest.mark.parametrize("name", ["vga.save", "hvm.save"])
def test_a_record_of_xls_that_holds_nothing_twice_stays_as_it_is(compacted, name):
    data = save_files.unpacked(name)
    assert compacted(data)[0] == data


def test_what_xl_sent_of_a_running_guest(compacted):
    data = save_files.unpacked("hvm-migrate.stream")
    smaller, _ = compacted(data)
    assert memory_of(smaller) == memory_of(data)
    found = verify(io.BytesIO(smaller)).pages
    assert found.data == len(memory_of(data)) < verify(io.BytesIO(data)).pages.data


def memory_of(data):
    """Return the pages that a save file ends with."""
    pages = {}

    def take(table, source):
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages * run.has_data):
                pages[pfn] = source.exact(4096, "a page")

    for _ in Walk(Source.of(data), take):
        pass
    return pages


def test_a_lab_record(compacted):
    data = save_file(steps=(*made.LAB_STEPS[:-1], libxc.End()), after=DEVICES)
    assert compacted(data)[0] == data
