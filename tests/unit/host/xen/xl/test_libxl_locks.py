"""libxl's locks: against holders that do what libxl does, by util-linux's flock and by hand."""

import fcntl
import os
import subprocess
import threading
import time

import pytest

from xenqemu.errors import HostError, HostTimeout
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.xl.libxl_locks import Lock, locked, userdata_path

UUID = "c676d8ca-e6db-11f1-b3bc-a9acb8269001"


@pytest.fixture
def path(tmp_path):
    return tmp_path / f"userdata-l.1.{UUID}.qmp-socket-lock"


def taken(tmp_path, timeout=5.0):
    return locked(Lock.QMP_SOCKET, 1, UUID, Deadlines(libxl_lock=timeout), tmp_path)


def is_free(path):
    return subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 0


@pytest.mark.parametrize(
    ("lock", "name"),
    [
        (Lock.DEVICE_CHANGES, "libxl-device-changes-lock"),
        (Lock.QMP_SOCKET, "qmp-socket-lock"),
        (Lock.USERDATA, "domain-userdata-lock"),
    ],
)
def test_the_files_are_libxls(tmp_path, lock, name):
    with locked(lock, 12, UUID, folder=tmp_path):
        (held,) = tmp_path.iterdir()
        assert held.name == f"userdata-l.12.{UUID}.{name}"
    assert list(tmp_path.iterdir()) == []


def test_the_folder_is_libxls():
    path = userdata_path(3, UUID, "libxl-json", "d")
    assert str(path) == f"/var/lib/xen/userdata-d.3.{UUID}.libxl-json"


def test_nobody_else_gets_it_while_it_is_held(tmp_path, path):
    with taken(tmp_path):
        assert not is_free(path)
        with pytest.raises(HostTimeout, match=r"qmp-socket-lock is locked .* for 0\.1 s"):
            with taken(tmp_path, 0.1):
                pytest.fail("both hold it")
        assert not is_free(path)
    assert not path.exists()


def test_it_is_released_when_the_block_fails(tmp_path, path):
    with pytest.raises(KeyError):
        with taken(tmp_path):
            raise KeyError
    assert not path.exists()
    with taken(tmp_path, 0.1):
        assert path.exists()


def test_it_waits_for_one_that_holds_it(tmp_path, path):
    holder = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(holder, fcntl.LOCK_EX)

    def let_go():
        path.unlink()  # as libxl does: first the name, then the lock
        os.close(holder)

    timer = threading.Timer(0.2, let_go)
    timer.start()
    start = time.monotonic()
    with taken(tmp_path):
        assert time.monotonic() - start >= 0.19
        assert not is_free(path)
    timer.join()


def test_a_file_left_behind_by_a_holder_that_died_is_in_nobodys_way(tmp_path, path):
    path.touch()
    with taken(tmp_path, 0.1):
        assert not is_free(path)
    assert not path.exists()


def test_a_lock_on_a_file_that_lost_its_name_does_not_count(tmp_path, path, monkeypatch):
    really = fcntl.flock
    names = iter([path.unlink, lambda: (path.unlink(), path.touch())])

    def removed_meanwhile(descriptor, how):
        really(descriptor, how)
        next(names, lambda: None)()

    monkeypatch.setattr(fcntl, "flock", removed_meanwhile)
    with taken(tmp_path):
        monkeypatch.undo()
        assert not is_free(path)
    assert not path.exists()


def test_many_at_once_hold_it_one_at_a_time(tmp_path):
    inside, most, done = [], [], []

    def work():
        for _ in range(10):
            with taken(tmp_path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(done) == 4
    assert (len(most), max(most)) == (40, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(HostError, match="cannot open the lock file .*: No such file"):
        with taken(tmp_path / "none"):
            pytest.fail("held")
