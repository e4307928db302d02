"""Room that is asked for before it is needed: on real file systems, small enough to fill."""

import ctypes
import errno
import os
import resource
import signal
from contextlib import contextmanager

import pytest

from tests.doubles.system.file_systems import disk, mounted, tmpfs
from xenqemu.errors import HostError
from xenqemu.system import free_space
from xenqemu.system.free_space import reserve

KIB = 1 << 10
SIZE = 1 << 20


@pytest.fixture
def folder():
    """A file system of 1 MiB that knows reserving."""
    with tmpfs(SIZE) as place:
        yield place


@contextmanager
def opened(folder):
    """Have a new file, unbuffered."""
    with (folder / "file").open("w+b", buffering=0) as file:
        yield file


def free(folder):
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def set_aside(file):
    return os.fstat(file.fileno()).st_blocks * 512


def fill(folder):
    """Have somebody else take all that is free."""
    with (folder / "others").open("wb", buffering=0) as file:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            while True:
                file.write(bytes(KIB))


def test_what_is_set_aside_can_be_written_whatever_others_do(folder):
    with opened(folder) as file:
        reserve(file.fileno(), 256 * KIB, folder)
        assert set_aside(file) == 256 * KIB
        assert os.fstat(file.fileno()).st_size == 0  # it does not look longer than it is
        assert free(folder) == SIZE - 256 * KIB
        fill(folder)
        assert file.write(bytes(256 * KIB)) == 256 * KIB
        assert free(folder) == 0


def test_what_was_written_stays(folder):
    with opened(folder) as file:
        file.write(b"here")
        reserve(file.fileno(), 64 * KIB, folder)
        assert os.pread(file.fileno(), 10, 0) == b"here"


def test_too_little_space_is_reported_with_both_numbers_and_nothing_is_reserved(folder):
    with opened(folder) as file:
        with pytest.raises(HostError) as caught:
            reserve(file.fileno(), SIZE + 1, folder)
        assert str(caught.value) == (
            f"{folder}: {SIZE + 1} bytes of free space are needed for the save file, "
            f"{SIZE} are available (the file system has no more)"
        )
        assert set_aside(file) == 0
        reserve(file.fileno(), SIZE, folder)


def test_what_was_set_aside_counts_when_more_is_needed(folder):
    with opened(folder) as file:
        reserve(file.fileno(), 600 * KIB, folder)
        reserve(file.fileno(), 900 * KIB, folder, 600 * KIB)
        assert set_aside(file) == 900 * KIB
        reserve(file.fileno(), 300 * KIB, folder, 900 * KIB)
        assert set_aside(file) == 900 * KIB
        with pytest.raises(
            HostError, match=f"{SIZE + KIB} bytes of free space are needed .* {SIZE} are"
        ):
            reserve(file.fileno(), SIZE + KIB, folder, 900 * KIB)


def test_file_system_has_the_last_word(folder, monkeypatch):
    """There are quotas, and others who take what was free just now."""
    monkeypatch.setattr(free_space, "free_for", lambda _file: 2 * SIZE)
    with opened(folder) as file:
        with pytest.raises(
            HostError, match=f"{2 * SIZE} are available .the file system has no more.$"
        ):
            reserve(file.fileno(), SIZE + 4 * KIB, folder)


@contextmanager
def no_file_longer_than(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_limit_of_a_file_counts_on_each_file_system(folder, tmp_path):
    for place in (folder, tmp_path):
        with opened(place) as file, no_file_longer_than(64 * KIB):
            reserve(file.fileno(), 64 * KIB, place)
            with pytest.raises(
                HostError, match="65537 bytes of free space .*it exceeds the file size limit.$"
            ):
                reserve(file.fileno(), 64 * KIB + 1, place)


def test_longest_file_of_the_file_system(monkeypatch):
    monkeypatch.setattr(free_space, "free_for", lambda _file: 1 << 50)
    with disk("ext2", 256 * KIB) as folder, opened(folder) as file:
        with pytest.raises(HostError, match="it exceeds the file size limit"):
            reserve(file.fileno(), 1 << 45, folder)


def test_file_system_that_knows_no_reserving():
    """As NFS before 4.2; Python's posix_fallocate would write to all of it."""
    with disk("ext2", 256 * KIB) as folder, opened(folder) as file:
        assert free_space.fallocate(file.fileno(), 0, KIB) == errno.EOPNOTSUPP
        there = free(folder)
        reserve(file.fileno(), there, folder)
        assert set_aside(file) == 0
        with pytest.raises(
            HostError, match=rf"{there + 1} bytes of free space are needed .* {there} are"
        ):
            reserve(file.fileno(), there + 1, folder)


def test_file_system_without_bounds():
    with mounted("-t", "ramfs", "none") as folder, opened(folder) as file:
        assert os.statvfs(folder).f_blocks == 0
        reserve(file.fileno(), 1 << 40, folder)


def test_reserving_continues_after_a_signal(folder, monkeypatch):
    """A tmpfs gives up, and takes all back, when one comes: a window that changes its size."""

    class Interrupted:
        left = 2

        def fallocate(self, *arguments):
            self.left -= 1
            ctypes.set_errno(errno.EINTR)
            return -1 if self.left >= 0 else really.fallocate(*arguments)

    really = free_space.LIBC
    monkeypatch.setattr(free_space, "LIBC", Interrupted())
    with opened(folder) as file:
        reserve(file.fileno(), 64 * KIB, folder)
        assert set_aside(file) == 64 * KIB
    assert free_space.LIBC.left == -1


def test_space_in_a_pipe_cannot_be_reserved():
    reading, writing = os.pipe()
    with pytest.raises(HostError, match=os.strerror(errno.ESPIPE)):
        reserve(writing, 1, "pipe")
    os.close(reading)
    os.close(writing)
