"""Parts that two files share: on real file systems, those that can and those that cannot."""

import errno
import mmap
import os
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from tests.doubles.system.file_systems import LEAST, REFLINKING, disk, tmpfs
from xenqemu.system.reflink import can_clone, clone_range, lay_out

BLOCK = 4096
SIZE = 64 * BLOCK


@pytest.fixture(scope="module", params=REFLINKING)
def folder(request):
    """A folder on a file system whose files may share parts."""
    with disk(request.param, LEAST) as place:
        yield place


@pytest.fixture(scope="module", params=["ext4", "tmpfs"])
def plain(request):
    """A folder on a file system without that."""
    with disk("ext4", 16 << 20) if request.param == "ext4" else tmpfs(16 << 20) as place:
        yield place


@contextmanager
def opened(*paths):
    """Have files, new ones, unbuffered; yield their descriptors."""
    with ExitStack() as stack:
        yield [stack.enter_context(path.open("w+b", buffering=0)).fileno() for path in paths]


def content(fd, start=0, size=SIZE):
    return os.pread(fd, size, start)


def blocks(folder):
    """Return how many bytes of a file system are taken."""
    os.sync()
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def extents(path):
    """Return in how many pieces a file lies, as e2fsprogs counts them."""
    told = subprocess.run(["filefrag", path], capture_output=True, text=True, check=True).stdout
    return int(told.rsplit(": ", 1)[1].split()[0])


def test_a_range_is_shared_and_each_file_keeps_its_contents(folder):
    data = os.urandom(SIZE)
    with opened(folder / "source", folder / "target") as (source, target):
        os.pwrite(source, data, 0)
        assert can_clone(source, target)
        assert os.fstat(target).st_size == 0
        clone_range(source, 2 * BLOCK, 8 * BLOCK, target, 3 * BLOCK)
        wanted = bytes(3 * BLOCK) + data[2 * BLOCK : 10 * BLOCK]
        assert content(target) == wanted
        os.pwrite(source, bytes(SIZE), 0)
        assert content(target) == wanted
        os.pwrite(target, bytes(len(wanted)), 0)
        assert content(source) == bytes(SIZE)


def test_what_is_shared_takes_no_space(folder):
    size = 32 << 20
    with opened(folder / "big", folder / "clone") as (source, target):
        os.pwrite(source, os.urandom(size), 0)
        before = blocks(folder)
        clone_range(source, 0, size, target, 0)
        assert blocks(folder) - before < size // 8


def test_what_a_mapping_has_just_written_is_shared_too(folder):
    with opened(folder / "ram", folder / "save") as (source, target):
        os.ftruncate(source, SIZE)
        with mmap.mmap(source, SIZE) as ram:
            ram[5 * BLOCK : 5 * BLOCK + 5] = b"first"
            clone_range(source, 0, SIZE, target, 0)
            ram[5 * BLOCK : 5 * BLOCK + 5] = b"later"
            ram[6 * BLOCK : 6 * BLOCK + 5] = b"later"
        assert content(target) == bytes(5 * BLOCK) + b"first".ljust(SIZE - 5 * BLOCK, b"\0")
        assert content(source, 5 * BLOCK, 5) == content(source, 6 * BLOCK, 5) == b"later"


def test_holes_stay_holes_and_replace_what_was_there(folder):
    with opened(folder / "holes", folder / "full") as (source, target):
        os.ftruncate(source, SIZE)
        os.pwrite(source, b"x" * BLOCK, 0)
        os.pwrite(target, b"y" * SIZE, 0)
        clone_range(source, 0, SIZE, target, 0)
        assert content(target) == b"x" * BLOCK + bytes(SIZE - BLOCK)
        os.fsync(target)
        assert os.lseek(target, 0, os.SEEK_HOLE) == BLOCK


def test_a_file_is_laid_out_in_one_piece_and_looks_empty(folder):
    size = 16 << 20
    with opened(folder / "laid") as (file,):
        os.ftruncate(file, size)
        lay_out(file, size)
        assert os.fstat(file).st_blocks * 512 >= size
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            os.lseek(file, 0, os.SEEK_DATA)
        for place in range(0, size, size // 8):
            os.pwrite(file, b"x" * BLOCK, place)
            os.fsync(file)
    assert extents(folder / "laid") == 1


def test_more_than_there_is_leaves_a_file_as_it_is(folder):
    with opened(folder / "large") as (file,):
        os.ftruncate(file, 4 * LEAST)
        lay_out(file, 4 * LEAST)
        assert os.fstat(file).st_size == 4 * LEAST


@pytest.mark.parametrize(("start", "place"), [(1, 0), (0, 1)])
def test_what_is_not_whole_blocks_is_refused(folder, start, place):
    with opened(folder / "source", folder / "target") as (source, target):
        os.ftruncate(source, SIZE)
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            clone_range(source, start, BLOCK, target, place)


def test_file_systems_that_cannot(plain):
    with opened(plain / "source", plain / "target") as (source, target):
        os.pwrite(source, bytes(SIZE), 0)
        assert not can_clone(source, target)
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            clone_range(source, 0, SIZE, target, 0)
        lay_out(target, SIZE)
        assert (os.fstat(target).st_size, os.fstat(target).st_blocks) == (0, 0)


def test_two_file_systems_share_nothing(folder, tmp_path):
    with opened(folder / "source", tmp_path / "target") as (source, target):
        os.pwrite(source, bytes(SIZE), 0)
        assert not can_clone(source, target)
        assert not can_clone(target, source)
        with pytest.raises(OSError, match=os.strerror(errno.EXDEV)):
            clone_range(source, 0, SIZE, target, 0)
