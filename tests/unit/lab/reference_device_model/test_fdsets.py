from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from xenqemu.lab.reference_device_model.fdsets import FdSets

WRITE = os.O_WRONLY | os.O_TRUNC


@pytest.fixture
def sets() -> Iterator[FdSets]:
    made = FdSets()
    yield made
    made.close()
    assert made.sets == {}


def test_numbers_are_the_lowest_free(sets: FdSets) -> None:
    assert [sets.add(os.memfd_create("x"), number, None) for number in (None, 2, None, None)] == [
        0,
        2,
        1,
        3,
    ]
    sets.remove(1, None, running=True)
    assert sets.add(os.memfd_create("x"), None, None) == 1


def test_the_member_with_exactly_the_mode_is_opened(sets: FdSets, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for mode in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
        sets.add(os.open(path, mode), 5, None)
    fd = sets.open("/dev/fdset/5", WRITE)
    assert path.read_bytes() == b""
    os.write(fd, b"new")
    os.close(fd)
    assert path.read_bytes() == b"new"
    reader = sets.open("/dev/fdset/5", os.O_RDONLY)
    assert os.read(reader, 9) == b"new"
    os.close(reader)


def test_nothing_rewinds(sets: FdSets, tmp_path: Path) -> None:
    sets.add(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT), 0, None)
    for expected in (b"once", b"\0\0\0\0once"):
        fd = sets.open("/dev/fdset/0", WRITE)
        os.write(fd, b"once")
        os.close(fd)
        assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/dev/fdset/", errno.EINVAL),
        ("/dev/fdset/x", errno.EINVAL),
        ("/dev/fdset/-1", errno.EINVAL),
        ("/dev/fdset/²", errno.EINVAL),
        ("/dev/fdset/7", errno.ENOENT),
        ("/dev/fdset/1", errno.EACCES),
        ("/dev/fdset/2", errno.EINVAL),
    ],
)
def test_what_does_not_open(sets: FdSets, name: str, expected: int) -> None:
    reader, writer = os.pipe()
    sets.add(os.memfd_create("both"), 1, None)
    sets.add(writer, 2, None)
    with pytest.raises(OSError, match=os.strerror(expected)) as caught:
        sets.open(name, WRITE)
    assert caught.value.errno == expected
    os.close(reader)


def test_removing_waits_for_a_machine_that_runs(sets: FdSets) -> None:
    first, second = os.memfd_create("a"), os.memfd_create("b")
    sets.add(first, 0, "text")
    sets.add(second, 0, None)
    sets.remove(0, first, running=False)
    assert sets.sets[0].fds == {first: "text", second: None}
    sets.client_left(running=False)
    assert sets.sets[0].fds == {first: "text", second: None}
    sets.remove(0, second, running=True)
    assert sets.sets == {}
    for number, fd in ((0, None), (1, None)):
        with pytest.raises(KeyError):
            sets.remove(number, fd, running=True)


def test_one_member_may_stay(sets: FdSets) -> None:
    first, second = os.memfd_create("a"), os.memfd_create("b")
    sets.add(first, 0, None)
    sets.add(second, 0, None)
    sets.remove(0, first, running=True)
    assert sets.sets[0].fds == {second: None}
    with pytest.raises(KeyError):
        sets.remove(0, first, running=True)
    sets.client_left(running=True)
    assert sets.sets == {}
