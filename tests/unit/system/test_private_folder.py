"""A folder of one user's own, and the lock in it."""

import os

import pytest

from xenqemu.errors import HostError
from xenqemu.system import private_folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own").mkdir(mode=0o700)
    return tmp_path / "own"


def test_it_is_made_private_and_its_lock_stays(tmp_path):
    with private_folder.locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    with private_folder.locked(tmp_path / "a" / "b"):
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "change", [lambda path: path.chmod(0o770), lambda path: os.chown(path, 7, 7)]
)
def test_a_folder_that_others_may_write_to(folder, change):
    change(folder)
    for act in (private_folder.require_own, lambda path: private_folder.locked(path).__enter__()):
        with pytest.raises(HostError, match="must be owned by you and writable by nobody else"):
            act(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "lock is a FIFO"),
        (lambda path: path.symlink_to("/x"), "lock is a symbolic link"),
    ],
)
def test_a_lock_that_is_no_file(folder, make, why):
    make(folder / "lock")
    with pytest.raises(HostError, match=why):
        with private_folder.locked(folder):
            pytest.fail("it is held")
