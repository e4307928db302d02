"""Whatever another program does with the file, it takes no more memory than it may."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from xenqemu.system import bounded_file as module
from xenqemu.system.bounded_file import bounded_file
from xenqemu.system.descriptors import reopened, require_file

SIZE = 1 << 20


def taken(file: int) -> int:
    return os.fstat(file).st_blocks * 512


def write_on(file: int) -> None:
    while True:
        os.write(file, bytes(100_000))


def write_far_out(file: int) -> None:
    for place in range(10_000):
        os.pwrite(file, b"x", place << 20)


def write_backwards(file: int) -> None:
    os.lseek(file, 1 << 40, os.SEEK_SET)
    os.write(file, bytes(4 * SIZE))
    write_on(file)


def allocate(file: int) -> None:
    os.posix_fallocate(file, 0, 1 << 34)


ACTS = (write_on, write_far_out, write_backwards, allocate)


@pytest.mark.parametrize("act", ACTS)
def test_nothing_that_is_done_to_it_takes_more(act):
    with bounded_file(SIZE) as file, reopened(file, os.O_WRONLY) as theirs:
        require_file(theirs, os.O_WRONLY)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            act(theirs)
        assert taken(file) <= SIZE


def test_it_is_truncated_and_filled_again():
    """So does QEMU (O_TRUNC), which a sealed memfd forbids."""
    with bounded_file(SIZE) as file, reopened(file, os.O_WRONLY | os.O_TRUNC) as theirs:
        for letter in b"ab":
            os.ftruncate(theirs, 0)
            os.pwrite(theirs, bytes([letter]) * SIZE, 0)
        assert os.pread(file, SIZE + 1, 0) == b"b" * SIZE


def test_it_ends_with_its_last_descriptor():
    mounts = Path("/proc/self/mountinfo").read_bytes()
    before = len([*Path("/proc/self/fd").iterdir()])
    with bounded_file(SIZE) as file:
        assert os.fstat(file).st_nlink == 0
        assert Path("/proc/self/mountinfo").read_bytes() == mounts
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_user_who_may_not_mount_gets_a_file_too():
    pid = os.fork()
    if not pid:
        os.setresuid(65534, 65534, 65534)
        try:
            with bounded_file(SIZE) as file:
                os.pwrite(file, bytes(2 * SIZE), 0)
        except BaseException:  # noqa: BLE001  the parent sees that it failed
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def test_other_failures_are_raised(monkeypatch):
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    monkeypatch.setattr(module, "_call", refuse)
    with pytest.raises(OSError, match="Too many open files in system"), bounded_file(SIZE):
        pass
