"""Pages that a RAM file and a save file share, on real file systems."""

import errno
import os
import random
from contextlib import contextmanager

import pytest
import xxhash

from tests.doubles.system.file_systems import LEAST, REFLINKING, disk
from xenqemu.errors import HypervisorError
from xenqemu.formats.stream import libxc, pieces
from xenqemu.formats.stream.page_data import XALLOC
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.lab import shared_pages
from xenqemu.lab.ram_file import RamFile

PAGE = 4096
PAGES = 4096
SIZE = PAGES * PAGE
BELOW = 3000 * PAGE
DATA = (range(16), range(100, 1500), range(2990, 3010), [3500], range(4000, 4096))
"""The pages of the guest that are no holes: some are on both sides of the PCI hole."""
MOST = 1 << 19
"""Bytes that the books of a file system may take."""


@pytest.fixture(scope="module", params=REFLINKING)
def folder(request):
    with disk(request.param, LEAST) as place:
        yield place


@pytest.fixture
def ram(folder):
    """A RAM file of pages that tell their number, some of zeros, and holes."""
    path = folder / "ram"
    with path.open("w+b", buffering=0) as file:
        file.truncate(SIZE)
        for index in (index for part in DATA for index in part):
            content = bytes(PAGE) if index % 50 == 7 else random.Random(index).randbytes(PAGE)
            os.pwrite(file.fileno(), content, index * PAGE)
    yield path
    for each in folder.iterdir():
        if each.is_file():
            each.unlink()


def taken(folder):
    """Return how many bytes of the file system are taken."""
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def memory(path):
    return RamFile(path, SIZE, BELOW)


def nothing(_done, _total):
    """Show no progress."""


@contextmanager
def image_in(path, *, align_pages=True, pieces=None):
    """Have a new file, and its sink at a place from which pages become aligned."""
    with path.open("w+b", buffering=0) as file:
        sink = Sink(file, pieces, align_pages=align_pages)
        before = RamFile(path, SIZE, BELOW).size_before_pages()
        sink.write(b"x" * (-before % PAGE))
        yield sink


def saved(ram, path, **options):
    """Save a RAM file and return where its image begins."""
    with image_in(path, **options) as sink:
        start = sink.offset
        memory(ram).save(sink, nothing)
    return start


def loaded(path, start, into):
    into.open("wb").truncate(SIZE)
    with path.open("rb") as file:
        file.seek(start)
        memory(into).load(Source(file, start), nothing)
    return into.read_bytes()


def records(path, start):
    """Return (offset of its pages, table) of each PAGE_DATA."""
    found = []

    def note(table, source):
        found.append((source.offset, table))
        source.skip(table.data_size, "pages")

    with path.open("rb") as file:
        file.seek(start)
        for _ in libxc.read(Source(file, start), note):
            pass
    return found


def test_the_pages_of_a_guest_are_shared_both_ways(folder, ram):
    before = taken(folder)
    start = saved(ram, folder / "save")
    assert loaded(folder / "save", start, folder / "again") == ram.read_bytes()
    assert taken(folder) - before < MOST
    assert (folder / "again").stat().st_blocks <= ram.stat().st_blocks
    with (folder / "again").open("rb") as file:
        assert os.lseek(file.fileno(), 16 * PAGE, os.SEEK_DATA) == 100 * PAGE


def test_each_page_stands_on_a_page(folder, ram):
    start = saved(ram, folder / "save")
    content = (folder / "save").read_bytes()
    expected = ram.read_bytes()
    seen = set()
    for place, table in records(folder / "save", start):
        assert place % PAGE == 0
        at = place
        for run in table.runs():
            assert run.type != XALLOC
            above = run.pfn >= BELOW // PAGE
            page = run.pfn - ((4 << 30) - BELOW) // PAGE if above else run.pfn
            size = run.pages * PAGE
            assert content[at : at + size] == expected[page * PAGE :][:size]
            seen.update(range(page, page + run.pages))
            at += size
    assert seen == {index for part in DATA for index in part}


def test_what_is_shared_is_read_back_for_its_digests(folder, ram, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", 100 * PAGE)
    found = pieces.Pieces()
    start = saved(ram, folder / "save", pieces=found)
    content = (folder / "save").read_bytes()
    for place, end in found.take_later():
        found.add(place, [content[place:end]])
    assert found.take_later() == []
    assert b"".join(content[piece.start : piece.end] for piece in found.in_order()) == content
    assert all(
        piece.digest == xxhash.xxh3_128_digest(content[piece.start : piece.end])
        for piece in found.in_order()
    )
    heads = [place - 16 - len(table.table) for place, table in records(folder / "save", start)]
    ends = {piece.end for piece in found.in_order()}
    assert heads
    assert ends >= {*heads[1:]}


def test_what_the_guest_writes_later_is_not_in_the_save_file(folder, ram):
    start = saved(ram, folder / "save")
    before = ram.read_bytes()
    ram.write_bytes(random.Random(1).randbytes(SIZE))
    assert loaded(folder / "save", start, folder / "again") == before
    (folder / "save").open("r+b").write(bytes(SIZE))
    assert (folder / "again").read_bytes() == before


def test_a_record_ends_where_it_would_be_too_long(folder, ram, monkeypatch):
    monkeypatch.setattr(shared_pages, "RECORD", 100 * PAGE)
    start = saved(ram, folder / "save")
    found = records(folder / "save", start)
    assert len(found) > sum(map(len, DATA)) // 100
    assert max(table.data_size for _, table in found) == 100 * PAGE
    assert loaded(folder / "save", start, folder / "again") == ram.read_bytes()


@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("why", [errno.EOPNOTSUPP, errno.ENOSPC, errno.EXDEV])
def test_what_cannot_be_shared_is_copied(folder, ram, monkeypatch, number, why):
    calls = []

    def fails(*ranges):
        calls.append(ranges)
        if len(calls) > number:
            raise OSError(why, os.strerror(why))
        return real(*ranges)

    real = shared_pages.clone_range
    start = saved(ram, folder / "whole")
    monkeypatch.setattr(shared_pages, "clone_range", fails)
    assert saved(ram, folder / "save") == start
    assert len(calls) > 3
    assert (folder / "save").read_bytes() == (folder / "whole").read_bytes()
    calls.clear()
    assert loaded(folder / "save", start, folder / "again") == ram.read_bytes()
    assert len(calls) > 3


def test_a_ram_file_that_is_too_short(folder, ram, monkeypatch):
    with image_in(folder / "save") as sink, ram.open("rb") as file:
        with pytest.raises(HypervisorError, match="guest memory ends at"):
            shared_pages.share(file.fileno(), SIZE - PAGE, 2 * PAGE, sink.descriptor, 0)


def test_a_full_disk_is_told(folder, ram):
    with (folder / "others").open("wb", buffering=0) as others:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            while True:
                os.write(others.fileno(), bytes(1 << 20))
                os.fsync(others.fileno())
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as told:
        saved(ram, folder / "save")
    assert told.value.errno == errno.ENOSPC


def test_pages_as_xl_writes_them_are_copied(folder, ram, monkeypatch):
    monkeypatch.setattr(shared_pages, "clone_range", None)
    start = saved(ram, folder / "save", align_pages=False)
    assert loaded(folder / "save", start, folder / "again") == ram.read_bytes()


def test_another_file_system_has_copies(folder, ram, tmp_path):
    shared = saved(ram, folder / "save")
    copied = saved(ram, tmp_path / "save")
    assert (tmp_path / "save").stat().st_size < (folder / "save").stat().st_size
    expected = ram.read_bytes()
    assert loaded(folder / "save", shared, tmp_path / "again") == expected
    assert loaded(tmp_path / "save", copied, folder / "again") == expected


def test_the_space_that_an_image_takes(folder, ram, tmp_path):
    data = sum(map(len, DATA)) * PAGE
    with image_in(folder / "save") as here, image_in(tmp_path / "save") as elsewhere:
        assert memory(ram).space(here.descriptor) < data // 4
        assert memory(ram).space(elsewhere.descriptor) == memory(ram).space() > data
