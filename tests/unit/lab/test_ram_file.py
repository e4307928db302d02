"""Guest memory in a file: whatever it holds comes back, wherever the PCI hole is."""

import errno
import io
import os
import random
import resource
import struct
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_128

from tests.property import strategies as made
from xenqemu.errors import BadRecord, FormatError, HypervisorError, Truncated
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import BROKEN, XALLOC, XTAB, PageData
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.memory.pages import WINDOW
from xenqemu.lab.ram_file import RamFile
from xenqemu.lab.ram_layout import ABOVE

PAGE = 4096
WINDOW_PAGES = WINDOW // PAGE


def nothing(_done, _total):
    """Show no progress."""


def fresh(path, size):
    """Return an empty file of guest memory."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def saved(ram, progress=nothing, *, processors=1, aligned=False, pieces=None) -> bytes:
    """Return the image of a memory, written by way of a file's descriptor."""
    with (
        pytest.MonkeyPatch.context() as patch,
        open(os.memfd_create("image"), "w+b", buffering=0) as file,
    ):
        patch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
        if aligned:
            file.write(bytes(-ram.size_before_pages() % PAGE))
        ram.save(sink_at_end(file, pieces, align_pages=aligned), progress)
        file.seek(0)
        return file.read()


def sink_at_end(file, pieces=None, *, align_pages) -> Sink:
    """Return what writes behind all that is there."""
    sink = Sink(file, pieces, align_pages=align_pages)
    sink.offset = file.tell()
    return sink


def pages_of(image: bytes) -> list[int]:
    """Return all entries of all PAGE_DATA records."""
    records = libxc.read(Source.of(image))
    return [e for r in records if isinstance(r.value, PageData) for e in r.value.entries()]


def image_of(*steps) -> bytes:
    """Return an image that holds just these pages."""
    return made.image((libxc.StaticDataEnd(), *steps, libxc.End()))


@st.composite
def memories(draw):
    """Size, size below the hole, and what is where: (first page, pages, zeros or data)."""
    pages = draw(st.integers(1, 3 * WINDOW_PAGES))
    below = draw(st.one_of(st.just(pages), st.integers(1, pages)))
    stretches = st.tuples(
        st.integers(0, pages - 1), st.integers(1, 2 * WINDOW_PAGES), st.booleans()
    )
    return pages * PAGE, below * PAGE, draw(st.lists(stretches, max_size=6)), draw(st.integers())


@settings(max_examples=40)
@given(memories())
def test_any_memory_comes_back(tmp_path_factory, memory):
    size, below, stretches, seed = memory
    folder = tmp_path_factory.mktemp("ram")
    before, after = fresh(folder / "before", size), fresh(folder / "after", size)
    some = random.Random(seed)
    with before.open("r+b") as file:
        for first, count, zeros in stretches:
            file.seek(first * PAGE)
            length = min(count * PAGE, size - first * PAGE)
            file.write(bytes(length) if zeros else some.randbytes(PAGE) * (length // PAGE))
    image = saved(RamFile(before, size, below))
    _check_several_threads(RamFile(before, size, below), image)
    _check_aligned(RamFile(before, size, below), fresh(folder / "aligned", size))
    out = io.BytesIO()
    RamFile(before, size, below).save(Sink(out), nothing)
    assert out.getvalue() == image
    counted = RamFile(before, size, below).counted_space(nothing)
    assert len(image) <= counted <= RamFile(before, size, below).space()
    RamFile(after, size, below).load(Source.of(image), nothing)
    assert after.read_bytes() == before.read_bytes()
    again = fresh(folder / "again", size)
    RamFile(again, size, below).load(made.dribbled(image, 100_000), nothing)
    assert again.read_bytes() == before.read_bytes()
    _check_order(image, size, below)
    for path in (before, after, again):
        path.unlink()


def _check_several_threads(ram, image):
    """The same pages, whichever record comes first, and digests of all bytes."""
    pieces = Pieces()
    several = saved(ram, processors=2, pieces=pieces)
    assert sorted(pages_of(several)) == sorted(pages_of(image))
    assert len(several) == len(image)
    after = 0
    for start, end, digest in pieces.in_order():
        assert start == after
        assert digest == xxh3_128(several[start:end]).digest()
        after = end
    assert after == len(several)


def _check_aligned(ram, after):
    """Each page on a multiple of 4096, all of them, at little more than without."""
    expected, found = saved(ram), []
    image = saved(ram, processors=2, aligned=True)
    start = -ram.size_before_pages() % PAGE
    assert len(image) - start <= len(expected) * 1.01 + 2 * PAGE
    assert len(image) - start <= ram.counted_space(nothing)

    def take(pages, source):
        found.extend(run.type | pfn for run in pages.runs() for pfn in range_of(run))
        assert source.offset % PAGE == 0 or not pages.data_size
        assert pages.count % 512 == 510
        source.skip(pages.data_size, "pages")

    for _ in libxc.read(Source(io.BytesIO(image[start:]), start), take):
        pass
    assert sorted(found) == sorted(pages_of(expected))
    RamFile(after, ram.layout.size, ram.layout.below).load(Source.of(image[start:]), nothing)
    loaded = saved(RamFile(after, ram.layout.size, ram.layout.below))
    without_zeros = [entry for entry in pages_of(expected) if entry < XALLOC]
    assert [entry for entry in pages_of(loaded) if entry < XALLOC] == without_zeros
    after.unlink()


def range_of(run):
    return range(run.pfn, run.pfn + run.pages)


def _check_order(image, size, below):
    """Ascending pfns, each once, none in the hole, at most 1024 a record, aligned windows."""
    pfns = [entry & (1 << 52) - 1 for entry in pages_of(image)]
    assert pfns == sorted(set(pfns))
    assert all(p * PAGE < below or 0 <= p * PAGE - ABOVE < size - below for p in pfns)
    for record in libxc.read(Source.of(image)):
        if isinstance(record.value, PageData):
            assert record.value.count <= 1024


def test_pages_over_the_hole_have_guest_physical_numbers(tmp_path):
    below, size = 5 * PAGE, 8 * PAGE  # no multiple of a window
    path = tmp_path / "ram"
    path.write_bytes(b"".join(bytes([n]) * PAGE for n in range(1, 9)))
    ram = RamFile(path, size, below)
    assert pages_of(saved(ram)) == [0, 1, 2, 3, 4, 1 << 20, 1 << 20 | 1, 1 << 20 | 2]
    for offset in range(0, size, PAGE):
        assert ram.layout.offset(ram.layout.pfn(offset), 1, 0) == offset


def test_holes_are_left_out_and_zeros_have_no_data(tmp_path):
    path = fresh(tmp_path / "ram", 64 << 20)
    with path.open("r+b") as file:
        file.seek(10 << 20)
        file.write(b"a" * PAGE + bytes(PAGE) + b"b" * PAGE)
    image = saved(RamFile(path, 64 << 20, 64 << 20))
    assert pages_of(image) == [0xA00, XALLOC | 0xA01, 0xA02]
    assert len(image) < 3 * PAGE
    after = fresh(tmp_path / "after", 64 << 20)
    RamFile(after, 64 << 20, 64 << 20).load(Source.of(image), nothing)
    assert after.stat().st_blocks * 512 <= 2 * 64 << 10  # the file system's own clusters
    assert after.read_bytes() == path.read_bytes()


def test_little_of_much_memory_takes_little_more_when_it_is_aligned(tmp_path):
    """As a guest of 64 GiB of which some pages in each window were touched."""
    size = 2000 * WINDOW
    path = fresh(tmp_path / "ram", size)
    with path.open("r+b") as file:
        for offset in range(0, size, WINDOW):
            file.seek(offset)
            file.write(b"x" * 2 * PAGE)
    ram = RamFile(path, size, 3 << 30)
    assert len(saved(ram, aligned=True)) < len(saved(ram)) + 100_000


def test_memory_of_zeros_takes_as_little_when_it_is_aligned(tmp_path):
    size = 100 * WINDOW
    path = tmp_path / "ram"
    path.write_bytes(bytes(size - PAGE) + b"x" * PAGE)
    ram = RamFile(path, size, size)
    assert len(saved(ram, aligned=True)) < len(saved(ram)) + 5 * PAGE


@pytest.mark.parametrize("processors", [1, 2])
def test_a_full_disk_while_several_threads_write(tmp_path, processors):
    size = 8 * WINDOW
    path = tmp_path / "ram"
    path.write_bytes(b"x" * size)
    before = threading.active_count()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            saved(RamFile(path, size, size), processors=processors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert threading.active_count() == before


def test_a_progress_that_cancels_while_several_threads_write(tmp_path):
    size = 8 * WINDOW
    path = tmp_path / "ram"
    path.write_bytes(b"x" * size)
    before = threading.active_count()

    def cancelled(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        saved(RamFile(path, size, size), cancelled, processors=2)
    assert threading.active_count() == before


def test_the_space_is_that_of_what_was_touched(tmp_path):
    size = 200 * WINDOW
    path = fresh(tmp_path / "ram", size)
    ram = RamFile(path, size, size)
    assert len(saved(ram)) <= ram.space() <= 100_000
    with path.open("r+b") as file:
        for offset in range(0, size, WINDOW):  # each makes a record of its own
            file.seek(offset)
            file.write(b"x")
    assert 200 * PAGE < len(saved(ram)) <= ram.space() < 2 * 200 * PAGE


def test_pages_of_zeros_take_eight_bytes_and_a_share_once_they_are_counted(tmp_path):
    size = 8 * WINDOW
    path = fresh(tmp_path / "ram", size)
    path.write_bytes(bytes(size - PAGE) + b"x" * PAGE)
    ram, seen = RamFile(path, size, size), []
    counted = ram.counted_space(lambda done, total: seen.append((done, total)))
    assert len(saved(ram)) <= counted < size // 20 < size < ram.space()
    assert seen == [(WINDOW * n, size) for n in range(1, 9)]


def test_counting_ends_as_its_progress_says(tmp_path):
    path = fresh(tmp_path / "ram", 2 * WINDOW)
    path.write_bytes(bytes(2 * WINDOW))

    def cancelled(_done: int, _total: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        RamFile(path, 2 * WINDOW, 2 * WINDOW).counted_space(cancelled)


def test_the_image_is_that_of_an_hvm_guest_with_no_state_of_xens(tmp_path):
    path = fresh(tmp_path / "ram", PAGE)
    records = [r.value for r in libxc.read(Source.of(saved(RamFile(path, PAGE, PAGE))))]
    assert records == [
        libxc.ImageHeader(3),
        libxc.DomainHeader(libxc.X86_HVM, 4, 17),
        libxc.StaticDataEnd(),
        libxc.End(),
    ]


def test_progress_goes_up_to_the_whole(tmp_path):
    size = 3 * WINDOW + PAGE
    path = tmp_path / "ram"
    path.write_bytes(b"x" * size)
    seen = []
    image = saved(RamFile(path, size, size), lambda *told: seen.append(told))
    steps = [(WINDOW * n, size) for n in (1, 2, 3)]
    assert seen == [*steps, (size, size), (size, size)]
    seen.clear()
    after = fresh(tmp_path / "after", size)
    RamFile(after, size, size).load(Source.of(image), lambda *told: seen.append(told))
    assert seen == [*steps, (size, size)]


def test_of_pages_sent_twice_the_later_one_counts(tmp_path):
    path = fresh(tmp_path / "ram", 4 * PAGE)
    one, two, three = b"1" * PAGE, b"2" * PAGE, b"3" * PAGE
    image = image_of(
        (PageData.of([0, 1, 2]), [one, one, one]),
        (PageData.of([1]), [two]),
        (PageData.of([2, XALLOC | 1, 3, 2]), [two, two, three]),  # XALLOC says nothing of contents
    )
    RamFile(path, 4 * PAGE, 4 * PAGE).load(Source.of(image), nothing)
    assert path.read_bytes() == one + two + three + two


def test_runs_longer_than_the_buffer(tmp_path):
    count = WINDOW_PAGES + 3
    data = random.Random(3).randbytes(count * PAGE)
    path = fresh(tmp_path / "ram", count * PAGE)
    image = image_of((PageData.of(range(count)), [data]))
    RamFile(path, count * PAGE, count * PAGE).load(Source.of(image), nothing)
    assert path.read_bytes() == data


BELOW, SIZE = 4 * PAGE, 6 * PAGE
OVER = ABOVE // PAGE
OUTSIDE = [4, OVER - 1, OVER + 2, OVER - 0xC0000, 1 << 51]


@pytest.mark.parametrize("kind", [0, XALLOC])
@pytest.mark.parametrize("pfn", OUTSIDE)
def test_pages_where_the_guest_has_no_ram_are_refused(tmp_path, pfn, kind):
    path = fresh(tmp_path / "ram", SIZE)
    pages = PageData.of([kind | pfn])
    image = image_of((pages, [bytes(pages.data_size)]))
    with pytest.raises(
        BadRecord, match=f"pages of {SIZE} bytes of RAM, got pfn {pfn:#x}"
    ) as caught:
        RamFile(path, SIZE, BELOW).load(Source.of(image), nothing)
    assert caught.value.offset == image.rindex(struct.pack("<Q", kind | pfn)) + 8
    assert path.stat().st_blocks == 0


@pytest.mark.parametrize("first", [2, OVER])
def test_runs_that_leave_the_ram_are_refused(tmp_path, first):
    path = fresh(tmp_path / "ram", SIZE)
    image = image_of((PageData.of([first, first + 1, first + 2]), [bytes(3 * PAGE)]))
    with pytest.raises(BadRecord, match=f"got pfn {first:#x}"):
        RamFile(path, SIZE, BELOW).load(Source.of(image), nothing)
    assert path.stat().st_blocks == 0


def test_pages_that_are_no_memory_may_be_anywhere(tmp_path):
    path = fresh(tmp_path / "ram", SIZE)
    image = image_of((PageData.of([XTAB | 99, BROKEN | 98, 1]), [b"1" * PAGE]))
    RamFile(path, SIZE, BELOW).load(Source.of(image), nothing)
    assert path.read_bytes() == bytes(PAGE) + b"1" * PAGE + bytes(4 * PAGE)


def test_an_image_cut_anywhere_is_an_error(tmp_path):
    path = tmp_path / "ram"
    path.write_bytes(b"".join(bytes([n]) * PAGE for n in range(1, 7)))
    image = saved(RamFile(path, SIZE, BELOW))
    after = fresh(tmp_path / "after", SIZE)
    for end in [*range(140), *range(140, len(image), 997), len(image) - 1]:
        with pytest.raises(Truncated):
            RamFile(after, SIZE, BELOW).load(Source.of(image[:end]), nothing)


@settings(max_examples=60)
@given(st.data())
def test_damage_is_an_error_or_other_contents(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "ram"
    path.write_bytes(b"".join(bytes([n]) * PAGE for n in range(1, 7)))
    image = bytearray(saved(RamFile(path, SIZE, BELOW)))
    image[data.draw(st.integers(0, 200))] ^= data.draw(st.integers(1, 255))
    after = fresh(folder / "after", SIZE)
    load = RamFile(after, SIZE, BELOW).load
    outcome = made.outcome(lambda data: load(Source.of(data), nothing), bytes(image))
    assert outcome is None or (isinstance(outcome, FormatError) and outcome.offset <= len(image))
    assert after.stat().st_size == SIZE


@pytest.mark.parametrize(
    ("size", "below"),
    [
        (PAGE + 1, PAGE),
        (2 * PAGE, PAGE + 512),
        (PAGE, 2 * PAGE),
        (PAGE, 0),
        (0, 0),
        (-PAGE, -PAGE),
        (8 << 30, (4 << 30) + PAGE),
    ],
)
def test_layouts_that_are_none(tmp_path, size, below):
    with pytest.raises(HypervisorError, match="not whole pages, or none there"):
        RamFile(tmp_path / "ram", size, below)


def test_no_space_for_the_memory(tmp_path):
    size = 16 * PAGE
    path = fresh(tmp_path / "ram", size)
    image = image_of((PageData.of(range(16)), [b"x" * size]))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(HypervisorError, match=f"guest memory: {os.strerror(errno.EFBIG)}"):
            RamFile(path, size, size).load(Source.of(image), nothing)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_system_that_fails_to_tell_its_holes(tmp_path, monkeypatch):
    path = fresh(tmp_path / "ram", PAGE)

    def fails(*_arguments):
        raise OSError(errno.EIO, "failed")

    monkeypatch.setattr(os, "lseek", fails)
    with pytest.raises(OSError, match="failed"):
        saved(RamFile(path, PAGE, PAGE))
