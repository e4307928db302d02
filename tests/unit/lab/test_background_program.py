"""Programs that live on, their last words, and their end if the body fails."""

import os
import time
from pathlib import Path

import pytest

from tests.doubles.system.processes import wait_ended
from xenqemu.errors import HostError, HostTimeout
from xenqemu.lab.background_program import WORDS, started
from xenqemu.system.process import Process


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def sh(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def test_it_lives_on_in_a_session_of_its_own(log):
    with started(sh("echo $PPID; exec sleep 600"), log) as program:
        program.wait(lambda: log.stat().st_size > 0, 20)
    process = Process.of(program.pid)
    try:
        assert os.getsid(program.pid) == program.pid
        assert Path(f"/proc/{program.pid}/fd/0").readlink() == Path(os.devnull)
    finally:
        process.end()


def test_it_is_ended_if_the_body_fails(log):
    with pytest.raises(ZeroDivisionError), started(["sleep", "600"], log) as program:
        raise ZeroDivisionError
    assert Process.of(program.pid) is None


def test_it_ends_before_it_is_ready(log):
    with pytest.raises(HostError, match=r"^sh ended with status 3; sh said: one; two three$"):
        with started(sh("echo one >&2; echo; echo ' two three'; exit 3"), log) as program:
            program.wait(lambda: False, 20)


def test_it_ends_without_a_word(log):
    with pytest.raises(HostError, match=r"^true ended with status 0; true said nothing$"):
        with started(["true"], log) as program:
            program.wait(lambda: False, 20)


def test_it_is_never_ready(log):
    began = time.monotonic()
    with pytest.raises(HostTimeout, match=r"^not ready after 0.3 s; sh said: busy$"):
        with started(sh("echo busy; exec sleep 600"), log) as program:
            program.wait(lambda: log.stat().st_size > 0, 20)
            program.wait(lambda: False, 0.3)
    assert time.monotonic() - began < 20
    wait_ended(program.pid)


def test_only_the_end_of_long_speech_is_repeated(log):
    with started(
        sh("i=0; while [ $i -lt 999 ]; do i=$((i+1)); echo line $i; done; exit 1"), log
    ) as p:
        wait_ended(p.pid)
        said = p.last_lines
    assert said.endswith("line 998; line 999")
    assert len(said) < WORDS + 999
    assert "line 1;" not in said


def test_words_that_are_no_text(log):
    with started(sh(r"printf '\377bad\n'"), log) as program:
        wait_ended(program.pid)
        assert program.last_lines == "sh said: \N{REPLACEMENT CHARACTER}bad"


@pytest.mark.parametrize(
    ("command", "why"),
    [("/nowhere/program", "No such file or directory"), ("/etc/passwd", "Permission denied")],
)
def test_what_cannot_be_started(log, command, why):
    name = command.rpartition("/")[2]
    with pytest.raises(HostError, match=f"^cannot start {name}: {why}$"), started([command], log):
        pytest.fail("started")
