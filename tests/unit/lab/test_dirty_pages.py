"""Memory that changes while it is written: the image ends as the memory did, in any case."""

import ctypes
import mmap
import os
import random
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import PFN_MASK, XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import Live
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.lab import dirty_pages
from xenqemu.lab.dirty_pages import CHUNK
from xenqemu.lab.ram_file import RamFile

PAGE = 4096
PAGES = CHUNK // PAGE
PUNCH_HOLE = 3
"""FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE."""


ALL_ITERATIONS = PrecopyOptions(threshold=-1)
"""Five iterations, even if nothing changes any more."""


def nothing(*_told):
    """Hear nothing, do nothing."""


class Memory:
    """A file of guest memory that a test writes to, and the images made of it."""

    def __init__(self, folder, pages, below=None):
        self.size = pages * PAGE
        self.below = self.size if below is None else below * PAGE
        self.path = folder / "ram"
        self.folder = folder
        with self.path.open("wb") as file:
            file.truncate(self.size)
        self.ram = RamFile(self.path, self.size, self.below)

    def write(self, page, data):
        with self.path.open("r+b") as file:
            file.seek(page * PAGE)
            file.write(data[: self.size - page * PAGE])

    def write_byte(self, offset, data):
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def punch(self, page, count):
        length = min(count * PAGE, self.size - page * PAGE)
        with self.path.open("r+b") as file:
            libc = ctypes.CDLL(None)
            offsets = (ctypes.c_int64(page * PAGE), ctypes.c_int64(length))
            assert libc.fallocate(file.fileno(), PUNCH_HOLE, *offsets) == 0

    def saved(self, precopy=None, *, suspend=nothing, report=nothing, progress=nothing):
        """Return a live image."""
        policy = precopy or ALL_ITERATIONS
        with open(os.memfd_create("image"), "w+b", buffering=0) as file:
            self.ram.save_live(Sink(file), progress, Live(policy, suspend, report))
            file.seek(0)
            return file.read()

    def replayed(self, image):
        """Return the memory that an image makes."""
        path = self.folder / "after"
        with path.open("wb") as file:
            file.truncate(self.size)
        RamFile(path, self.size, self.below).load(Source.of(image), nothing)
        return path.read_bytes()

    def bytes(self):
        return self.path.read_bytes()

    def assert_is(self, image):
        """Compare the memory that an image makes with this, page by page."""
        now, made = self.bytes(), self.replayed(image)
        starts = range(0, self.size, PAGE)
        unlike = [at // PAGE for at in starts if now[at : at + PAGE] != made[at : at + PAGE]]
        assert unlike == []


@pytest.fixture
def memory(tmp_path):
    """Two chunks and a bit, the first of which holds data."""
    made = Memory(tmp_path, 2 * PAGES + 3)
    made.write(0, b"".join(bytes([n % 250 + 1]) * PAGE for n in range(PAGES)))
    return made


def records(image):
    """Return the entries of each PAGE_DATA record."""
    found = libxc.read(Source.of(image))
    return [list(r.value.entries()) for r in found if isinstance(r.value, PageData)]


CHANGES = st.tuples(st.integers(0, 3 * PAGES - 1), st.integers(1, 70), st.sampled_from("dzph"))


def change(memory, some, page, count, kind):
    """Write data or zeros, to a byte of each page, or punch a hole."""
    if page * PAGE >= memory.size:
        return
    if kind == "h":
        memory.punch(page, count)
    elif kind == "p":
        for each in range(page, min(page + count, memory.size // PAGE)):
            memory.write_byte(each * PAGE + some.randrange(PAGE), some.randbytes(1))
    else:
        memory.write(page, bytes(count * PAGE) if kind == "z" else some.randbytes(PAGE) * count)


@st.composite
def stories(draw):
    """Size, size below the hole, what memory is at first, and what happens at each moment."""
    pages = draw(st.integers(1, 3 * PAGES))
    below = draw(st.one_of(st.just(pages), st.integers(1, pages)))
    moments = draw(st.lists(st.lists(CHANGES, max_size=3), max_size=30))
    return pages, below, draw(st.lists(CHANGES, max_size=6)), moments, draw(st.integers())


@settings(max_examples=60, deadline=None)
@given(stories())
def test_whatever_changes_when_ever_the_image_ends_as_the_memory(tmp_path_factory, story):
    pages, below, first, moments, seed = story
    memory = Memory(tmp_path_factory.mktemp("ram"), pages, below)
    some = random.Random(seed)

    def moment(*_told):
        for each in moments.pop(0) if moments else ():
            change(memory, some, *each)

    def suspend():
        moment()
        moments.clear()

    for each in first:
        change(memory, some, *each)
    image = memory.saved(suspend=suspend, report=moment, progress=moment)
    memory.assert_is(image)
    for entries in records(image):
        pfns = [entry & PFN_MASK for entry in entries]
        assert pfns == sorted(set(pfns))
        assert len(pfns) <= 1024
    for path in memory.folder.iterdir():
        path.unlink()


WRITER = """
import mmap, random, sys
path, seed = sys.argv[1:]
some = random.Random(seed)
with open(path, "r+b") as file:
    words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
zeros = memoryview(bytes(8 * 600)).cast("Q")
print("writing", flush=True)
while True:
    for _ in range(200):
        at = some.randrange(len(words))
        old = words[at]
        words[at] = 1                                   # a lock that is taken
        words[at] = old                                 # and let go
        words[some.randrange(len(words))] = some.getrandbits(64)
        start = some.randrange(len(words) - 600)
        words[start : start + 600] = some.choice([zeros, words[start + 1 : start + 601]])
    words[0] += 1
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_process_that_writes_without_a_pause(tmp_path, seed):
    memory = Memory(tmp_path, 40 * PAGES, 25 * PAGES + 7)
    memory.write(0, random.Random(seed).randbytes(20 * CHUNK))
    command = [sys.executable, "-c", WRITER, memory.path, str(seed)]
    stopped = []
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:

        def suspend():
            os.kill(writer.pid, signal.SIGSTOP)
            stopped.append(os.waitid(os.P_PID, writer.pid, os.WSTOPPED))

        def more(_round):
            before = memory.bytes()[:8]
            while writer.poll() is None and not stopped and memory.bytes()[:8] == before:
                pass

        assert writer.stdout.readline() == b"writing\n"
        image = memory.saved(suspend=suspend, report=more)
        memory.assert_is(image)
        writer.kill()
    assert len(records(image)) >= 2 + 4


def test_a_value_that_is_another_one_only_while_it_is_copied(memory, monkeypatch):
    """A digest of the memory, not of the copy, would say that nothing has changed."""
    taken, free = b"taken".ljust(PAGE, b"."), b"free!".ljust(PAGE, b".")
    memory.write(1, free)
    runs = [True]
    digest, copied = dirty_pages.digest, dirty_pages.copied

    def looking(pages):
        found = digest(pages)
        if runs and pages.readonly and len(pages) > PAGE:  # the memory, not a copy
            memory.write(1, taken)
        return found

    def copying(pages, buffer):
        copy = copied(pages, buffer)
        if runs:
            memory.write(1, free)
        return copy

    def suspend():
        memory.write(1, free)
        runs.clear()

    monkeypatch.setattr(dirty_pages, "digest", looking)
    monkeypatch.setattr(dirty_pages, "copied", copying)
    image = memory.saved(suspend=suspend)
    memory.assert_is(image)
    assert taken in image


def test_only_pages_that_changed_are_written_again(memory):
    def suspend():
        memory.write(5, b"x" * PAGE)
        memory.write(7, b"y" * 2 * PAGE)

    image = memory.saved(suspend=suspend)
    assert records(image) == [list(range(PAGES)), [5, 7, 8]]


def test_the_pages_that_changed_are_counted(memory):
    reported = []

    def change(done):
        reported.append((done.number, done.pages, done.changed))
        if done.number == 1:
            memory.write(3, b"x" * 2 * PAGE)
            memory.write(2 * PAGES + 1, b"y" * PAGE)

    memory.saved(PrecopyOptions(iterations=3, threshold=-1), report=change)
    assert reported == [(1, PAGES, 0), (2, 0, 2 + 3), (3, 2 + 3, 0), (4, 0, 0)]


def test_zeros_are_data_in_the_place_of_data_but_not_at_first(memory):
    memory.write(2, bytes(PAGE))
    changes = [(2, b"x" * PAGE), (2, bytes(PAGE)), (3, bytes(PAGE)), (PAGES, bytes(PAGE))]

    def change(done):
        if changes and done.number % 2:  # it is found at the next look, and written after that
            memory.write(*changes.pop(0))

    image = memory.saved(PrecopyOptions(iterations=9, threshold=-1), report=change)
    fresh = [XALLOC | pfn for pfn in range(PAGES, 2 * PAGES)]
    first = [0, 1, XALLOC | 2, *range(3, PAGES)]
    assert records(image) == [first, [2], [2], [3], fresh]
    memory.assert_is(image)


def test_holes_stay_holes(tmp_path):
    memory = Memory(tmp_path, 200 * PAGES)
    memory.write(3 * PAGES + 9, b"x" * PAGE)
    image = memory.saved()
    assert [len(entries) for entries in records(image)] == [PAGES]
    assert memory.path.stat().st_blocks * 512 <= 2 * CHUNK


def test_a_guest_without_memory_yet(tmp_path):
    memory = Memory(tmp_path, PAGES)
    reported = []
    image = memory.saved(report=reported.append)
    assert records(image) == []
    assert [(r.pages, r.size, r.changed) for r in reported] == [(0, 0, 0)] * 6


def test_progress_begins_anew_with_each_round(memory):
    seen = []
    memory.saved(
        PrecopyOptions(iterations=1, threshold=0),
        suspend=lambda: memory.write(PAGES, b"x" * 2 * CHUNK),
        progress=lambda *told: seen.append(told),
    )
    rest = 3 * PAGE
    assert seen == [(CHUNK, CHUNK), (CHUNK + rest, CHUNK + rest)]


def test_the_file_is_mapped_once_for_all_saves_of_an_object(memory, monkeypatch):
    really, mapped = mmap.mmap, []

    def mapping(fd, *words):
        mapped.append(os.path.samestat(os.fstat(fd), memory.path.stat()))
        return really(fd, *words)

    monkeypatch.setattr(mmap, "mmap", mapping)
    memory.saved()
    memory.saved()
    assert mapped == [True]
