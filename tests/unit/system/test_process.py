"""A process is told from another of its id, and ended for certain."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.doubles.system.processes import NOBODY, running, wait_ended
from xenqemu.errors import HostTimeout
from xenqemu.system import process
from xenqemu.system.process import Process

DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('deaf', flush=True); time.sleep(60)"
)


def test_of_ourselves():
    found = Process.of(os.getpid())
    assert found.pid == os.getpid()
    assert found.alive
    ticks = time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")
    assert 0 < found.started <= ticks


def test_for_how_long_it_has_worked():
    me = Process.of(os.getpid())
    before = me.cpu_seconds
    assert 0 < before <= time.process_time() + 0.02
    while time.process_time() < before + 0.05:
        pass
    assert me.cpu_seconds > before
    with running("sleep", "60") as child:
        idle = Process.of(child.pid)
        assert idle.cpu_seconds < 1
    assert idle.cpu_seconds == 0


def test_a_name_with_parentheses_and_blanks_is_no_field(tmp_path):
    odd = tmp_path / "a) Z 1 (b"
    odd.symlink_to("/bin/sleep")
    with running("sleep", "60", name=str(odd)) as child:
        found = Process.of(child.pid)
        assert found is not None
        assert found.started >= Process.of(os.getpid()).started


@pytest.mark.parametrize("size", range(12, 16))
def test_a_name_that_linux_cuts_within_a_character_is_no_matter(tmp_path, size):
    odd = tmp_path / ("x" * size + "\U0001f600" * 4)
    odd.symlink_to("/bin/sleep")
    with running("sleep", "60", name=str(odd)) as child:
        assert Process.of(child.pid).alive
        assert child.pid in {each.pid for each in process.commands()}


def test_processes_of_other_users_are_not_listed(tmp_path):
    with running("sleep", "60") as ours:
        theirs = subprocess.Popen(["sleep", "60"], user=NOBODY)
        try:
            found = {each.pid: each for each in process.commands()}
            assert theirs.pid not in found
            assert found[ours.pid].words == ["sleep", "60"]
            assert found[ours.pid].program == os.path.realpath(shutil.which("sleep"))
        finally:
            theirs.kill()
            theirs.wait()


def test_a_zombie_has_ended():
    with running("true") as child:
        wait_ended(child.pid)
        assert os.path.exists(f"/proc/{child.pid}/stat")  # noqa: PTH110  nobody waited for it


def test_end_by_sigterm():
    with running("sleep", "60") as child:
        found = Process.of(child.pid)
        found.end()
        assert not found.alive
        found.end()  # may be repeated
    assert Process.of(child.pid) is None


def test_end_reaps_a_child_of_ours():
    with running("sleep", "60") as child:
        Process.of(child.pid).end()
        assert not os.path.exists(f"/proc/{child.pid}")  # noqa: PTH110


def test_end_by_sigkill_if_it_ignores_sigterm(monkeypatch):
    monkeypatch.setattr(process, "END_TIMEOUT", 0.5)
    with running(sys.executable, "-c", DEAF) as child:
        assert child.stdout.readline() == b"deaf\n"
        found = Process.of(child.pid)
        found.end()
        assert not found.alive


def test_another_process_with_the_id_is_left_alone():
    with running("sleep", "60") as child:
        now = Process.of(child.pid)
        former = Process(child.pid, now.started - 1)
        assert not former.alive
        former.end()
        assert now.alive


def test_one_that_cannot_be_ended_is_an_error(monkeypatch):
    monkeypatch.setattr(process, "END_TIMEOUT", 0.05)
    sent = []
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _fd, number: sent.append(number))
    with running("sleep", "60") as child:
        with pytest.raises(
            HostTimeout, match=f"process {child.pid} is still there 0.05 s after SIGKILL"
        ):
            Process.of(child.pid).end()
    assert sent == [signal.SIGTERM, signal.SIGKILL]


def test_one_that_ends_by_itself_meanwhile(monkeypatch):
    with running("sleep", "60") as child:
        found = Process.of(child.pid)
        really = signal.pidfd_send_signal

        def too_late(handle, number):
            child.kill()
            child.wait()
            really(handle, number)  # raises ProcessLookupError: it was waited for

        monkeypatch.setattr(signal, "pidfd_send_signal", too_late)
        found.end()
        assert not found.alive


def test_one_that_was_never_there():
    with running("true") as child:
        child.wait()
    assert Process.of(child.pid) is None
    Process(child.pid, 1).end()
