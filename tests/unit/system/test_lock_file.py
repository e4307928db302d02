"""A lock that is a file: what libxl's locks do not show of it (xl/test_libxl_locks.py)."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system import lock_file

HOLDER = """
import signal, sys
from pathlib import Path
from xenqemu.system import lock_file
with lock_file.locked(Path(sys.argv[1]), 10):
    print("held", flush=True)
    signal.pause()
"""


def test_it_is_private_unless_told_otherwise(tmp_path):
    with lock_file.locked(tmp_path / "lock", 1):
        assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_it_is_released_by_the_death_of_its_holder(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HostTimeout, match=r"lock is locked by another process for 0\.1 s"):
            with lock_file.locked(path, 0.1):
                pytest.fail("both hold it")
        holder.send_signal(signal.SIGKILL)
    assert path.exists()
    with lock_file.locked(path, 5):
        pass
    assert not path.exists()


def test_a_lock_whose_file_cannot_be_removed_is_released_all_the_same(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    with monkeypatch.context() as patch, pytest.raises(PermissionError):
        with lock_file.locked(path, 1):
            patch.setattr(os, "unlink", refuse)
    with lock_file.locked(path, 0.1):
        pass
    assert not path.exists()


def refuse(*_arguments, **_options):
    raise PermissionError


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere"), Path.mkdir])
def test_what_is_no_file_is_neither_followed_nor_waited_for(tmp_path, make):
    make(tmp_path / "lock")
    with pytest.raises(HostError, match=f"cannot open the lock file {tmp_path}/lock: "):
        with lock_file.locked(tmp_path / "lock", 1):
            pytest.fail("it is held")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_file_of_another_user_is_no_lock(tmp_path):
    (tmp_path / "lock").touch()
    os.chown(tmp_path / "lock", 4711, -1)
    with pytest.raises(HostError, match="lock is owned by user 4711"):
        with lock_file.locked(tmp_path / "lock", 1):
            pytest.fail("it is held")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(HostError, match="cannot open the lock file .*: No such file"):
        with lock_file.locked(tmp_path / "none" / "lock", 1):
            pytest.fail("it is held")
