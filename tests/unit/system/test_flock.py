"""Locks on files: who holds one, who waits, and for how long."""

import fcntl
import os
import signal
import subprocess
import threading
import time

import pytest

from xenqemu.errors import Cancelled
from xenqemu.system.cancellation import Cancellation, cancellable
from xenqemu.system.flock import PAUSE, locked_within


@pytest.fixture
def path(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


@pytest.fixture
def mine(path):
    with path.open() as file:
        yield file.fileno()


@pytest.fixture
def theirs(path):
    with path.open() as file:
        yield file.fileno()


def is_free(path):
    return subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 0


def test_free_lock_is_taken_at_once(path, mine):
    assert locked_within(0, mine)
    assert not is_free(path)
    assert locked_within(0, mine)  # by who has it already, too


def test_held_lock_is_waited_for_in_vain(mine, theirs):
    assert locked_within(0, theirs)
    assert not locked_within(0, mine)
    start = time.monotonic()
    assert not locked_within(3 * PAUSE, mine)
    assert time.monotonic() - start >= 3 * PAUSE


def test_lock_is_got_when_it_is_released(path, mine, theirs):
    assert locked_within(0, theirs)
    timer = threading.Timer(0.1, fcntl.flock, (theirs, fcntl.LOCK_UN))
    timer.start()
    assert locked_within(20, mine)
    timer.join()
    assert not is_free(path)


def test_those_who_only_look_are_in_each_others_way_no_more_than_that(mine, theirs):
    assert locked_within(0, theirs, fcntl.LOCK_SH)
    assert locked_within(0, mine, fcntl.LOCK_SH)
    assert not locked_within(0, mine)
    fcntl.flock(theirs, fcntl.LOCK_UN)
    assert locked_within(0, mine)
    assert not locked_within(0, theirs, fcntl.LOCK_SH)


def test_lock_of_a_killed_process_is_free(path, mine):
    hear, say = os.pipe()
    pid = os.fork()
    if not pid:
        other = os.open(path, os.O_RDONLY)
        os.write(say, b"1" if locked_within(0, other) else b"0")
        signal.pause()
    assert os.read(hear, 1) == b"1"
    assert not locked_within(0, mine)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert locked_within(0, mine)
    os.close(hear)
    os.close(say)


def test_wait_ends_when_its_operation_is_to_end(mine, theirs):
    def end():
        raise Cancelled("cancelled")

    assert locked_within(0, theirs)
    with pytest.raises(Cancelled), cancellable(Cancellation(end)):
        locked_within(3600, mine)
    fcntl.flock(theirs, fcntl.LOCK_UN)
    assert locked_within(0, theirs)  # it was not taken on the way out


def test_what_cannot_be_locked():
    with pytest.raises(OSError, match="Bad file descriptor"):
        locked_within(20, 1 << 20)
