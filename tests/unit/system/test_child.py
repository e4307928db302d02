"""The door to other programs: real ones that fail, hang, flood, do not read, and leave others."""

import os
import select
import signal
import sys
import threading
import time

import pytest

from xenqemu.errors import Cancelled, HostError, HostTimeout
from xenqemu.system import child
from xenqemu.system.cancellation import Cancellation, cancellable, wait_cancellable
from xenqemu.system.child import PIPE, finished, run, started
from xenqemu.system.process import Process
from xenqemu.system.program_output import KEPT_BYTES, OutputTail, last_lines

LATE = 30.0
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def sh(script):
    return ["sh", "-c", script]


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


@pytest.fixture(autouse=True)
def nothing_left():
    """See that each descriptor is given back."""
    before = descriptors()
    yield
    assert descriptors() == before


@pytest.fixture
def said():
    return OutputTail()


def line(running):
    """Return a line that a program prints."""
    text = b""
    while not text.endswith(b"\n"):
        assert running.ready({running.output.fileno(): select.POLLIN}, LATE)
        text += os.read(running.output.fileno(), 1)
    return text.decode().strip()


# One question, one answer.


def test_what_is_given_and_what_is_printed():
    assert run("cat", ["cat"], 10, "größe\n") == "größe\n"
    assert run("cat", ["cat"], 10) == ""
    assert run("printf", ["printf", r"\377"], 10) == r"\xff"


def test_more_than_a_pipe_holds_there_and_back():
    text = "0123456789abcde\n" * (1 << 16)
    assert run("cat", ["cat"], LATE, text) == text


def test_a_program_that_does_not_read():
    assert run("echo", sh("exec <&-; echo done"), LATE, "x" * (4 << 20)) == "done\n"


def test_a_program_that_fails():
    with pytest.raises(HostError, match=r"^looking failed \(2\): .*/none.*No such file"):
        run("looking", ["ls", "/none"], 10)


def test_a_program_that_is_killed():
    with pytest.raises(HostError, match=r"^it failed \(-11\): oh$"):
        run("it", sh("echo oh >&2; kill -SEGV $$"), LATE)


def test_a_program_that_cannot_be_started():
    with pytest.raises(HostError, match=r"^cannot run it: .*No such file.*/nowhere"):
        run("it", ["/nowhere/program"], LATE)
    with pytest.raises(HostError, match=r"^no: Permission denied$"):
        finished("it", ["/etc/passwd"], LATE, start_error=lambda error: f"no: {error.strerror}")


def test_a_program_that_hangs():
    with pytest.raises(HostTimeout, match=r"sleeping did not end within 0\.1 s"):
        run("sleeping", ["sleep", "60"], 0.1)


def test_a_flood_of_errors_is_kept_in_part():
    done = finished("it", sh("echo first >&2; yes 0123456 | head -n 99999 >&2; echo end >&2"), LATE)
    assert done.stderr.startswith(b"first\n0123456\n")
    assert done.stderr.endswith(b"0123456\nend\n")
    assert len(done.stderr) <= 2 * KEPT_BYTES + 1


def test_a_flood_of_errors_without_end_has_a_deadline(said):
    with pytest.raises(HostTimeout, match="it did not end within 0.3 s"):
        run("it", sh("exec yes >&2"), 0.3)


def test_a_flood_of_output_is_refused(monkeypatch):
    monkeypatch.setattr(child, "MAX_OUTPUT", 1 << 20)
    with pytest.raises(HostError, match=r"^it printed more than 1 MiB$"):
        run("it", ["yes"], LATE)


@pytest.mark.parametrize("left", ["sleep 600", "yes", "yes >&2"])
def test_what_is_left_running_with_the_pipes_is_not_waited_for(tmp_path, left):
    began = time.monotonic()
    script = f"{left} & echo $! >{tmp_path}/pid; echo done"
    assert "done\n" in run("it", sh(script), LATE)
    assert time.monotonic() - began < LATE / 2
    left = Process.of(int((tmp_path / "pid").read_text()))
    if left:  # who finds the pipe closed ends by himself
        left.end()


# One that is fed, heard and waited for.


def test_it_is_fed_more_than_a_pipe_holds(said):
    with started("wc", ["wc", "-c"], stdin=PIPE, stdout=said.keep) as running:
        running.feed(bytes(1 << 20), LATE)
        assert not running.wait(0.0)
        running.hang_up()
        assert running.wait(LATE)
        running.hang_up()
        assert (running.status, str(said)) == (0, str(1 << 20))


def test_it_is_fed_while_it_talks(said):
    script = "import sys; sys.stderr.write('word\\n' * 100000); sys.stdin.read(); sys.exit('end')"
    with started("it", [sys.executable, "-c", script], stdin=PIPE, stderr=said.keep) as running:
        running.feed(bytes(1 << 20), LATE)
        running.hang_up()
        assert running.wait(LATE)
    assert str(said).endswith("word; end")


def test_one_that_reads_no_more_is_a_broken_pipe():
    with started("it", sh("exec <&-; sleep 60"), stdin=PIPE) as running:
        with pytest.raises(BrokenPipeError):
            running.feed(bytes(1 << 20), LATE)


def test_one_that_does_not_read_on():
    with started("it", ["sleep", "60"], stdin=PIPE) as running:
        with pytest.raises(HostTimeout, match=r"^it read nothing for 0\.2 s$"):
            running.feed(bytes(1 << 20), 0.2)


def test_one_that_talks_and_does_not_read_on():
    with started("it", sh("exec yes >&2"), stdin=PIPE, stderr=OutputTail().keep) as running:
        with pytest.raises(HostTimeout, match=r"^it read nothing for 0\.2 s$"):
            running.feed(bytes(1 << 20), 0.2)


@pytest.mark.parametrize("wait", ["feeding", "waiting"])
def test_an_operation_that_is_to_end_ends_it(wait):
    def end():
        raise Cancelled("cancelled")

    began = time.monotonic()
    with pytest.raises(Cancelled), cancellable(Cancellation(end)):
        with started("it", ["sleep", "60"], stdin=PIPE) as running:
            if wait == "feeding":
                running.feed(bytes(1 << 20), LATE)
            wait_cancellable(running.wait, LATE)
    assert running.status == -signal.SIGKILL
    assert time.monotonic() - began < LATE / 2


def test_both_streams_with_one_callback_keep_their_order(said):
    script = "for i in 1 2 3; do echo out $i; echo err $i >&2; done"
    with started("it", sh(script), stdout=said.keep, stderr=said.keep) as running:
        assert running.wait(LATE)
    assert str(said) == "out 1; err 1; out 2; err 2; out 3; err 3"


def test_the_end_of_its_output_is_reported():
    pieces = []
    with started("it", sh("echo one >&2; exec 2>&-; sleep 60"), stderr=pieces.append) as running:
        while pieces[-1:] != [b""]:
            assert not running.wait(0.01)
    assert b"".join(pieces) == b"one\n"


def test_a_callback_that_raises_ends_it():
    def hear(_piece):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with started("it", sh("exec yes >&2"), stderr=hear) as running:
            running.wait(LATE)
    assert running.status == -signal.SIGKILL


def test_what_it_prints_and_nobody_reads_does_not_hold_it_up():
    with started("it", sh("seq 1 100000; exit 4"), stdout=PIPE) as running:
        assert running.wait(LATE)
        assert running.status == 4


def test_its_environment_folder_descriptors_and_session(said, tmp_path):
    with open("/dev/full") as full:
        script = f"pwd; echo $A$HOME; readlink /proc/self/fd/{full.fileno()}; echo end"
        with started(
            "it",
            ["/bin/sh", "-c", script],
            stdout=said.keep,
            folder=tmp_path,
            environment={"A": "b", "PATH": os.environ["PATH"]},
            descriptors=[full.fileno()],
            new_session=True,
        ) as running:
            assert os.getsid(running.pid) == running.pid
            assert running.wait(LATE)
    assert str(said) == f"{tmp_path}; b; /dev/full; end"
    with started("it", sh("readlink /proc/$$/fd/0"), stdout=said.keep) as running:
        assert os.getsid(running.pid) == os.getsid(0)
        assert running.wait(LATE)
    assert str(said).endswith("; /dev/null")


# Its end.


def test_it_is_killed_if_it_has_no_time():
    with started("it", ["sleep", "60"]) as running:
        pass
    assert running.status == -signal.SIGKILL
    assert running.end() == -signal.SIGKILL


def test_it_comes_to_its_own_end_when_there_is_no_more_to_read(tmp_path):
    script = f"cat >/dev/null; echo done >{tmp_path}/file"
    with started("it", sh(script), stdin=PIPE, eof_grace=LATE) as running:
        running.feed(b"data", LATE)
    assert running.status == 0
    assert (tmp_path / "file").exists()


def test_it_gets_sigterm_before_its_pipe_is_closed(monkeypatch):
    def tell(handle, number):
        time.sleep(0.2)  # in which it could find its pipe closed
        real(handle, number)

    real = signal.pidfd_send_signal
    monkeypatch.setattr(signal, "pidfd_send_signal", tell)
    script = "trap 'exit 5' TERM; echo ready; read word; exit 6"
    with started("it", sh(script), stdin=PIPE, stdout=PIPE, term_grace=LATE) as running:
        assert line(running) == "ready"
    assert running.status == 5


@pytest.mark.parametrize(
    ("alone", "told", "script", "status"),
    [
        (0.2, LATE, "echo ready; exec sleep 60", -signal.SIGTERM),
        (0.2, 0.2, DEAF, -signal.SIGKILL),
        (0.0, 0.2, DEAF, -signal.SIGKILL),
        (0.2, 0.0, "echo ready; exec sleep 60", -signal.SIGKILL),
    ],
)
def test_one_that_stays(alone, told, script, status):
    with started("it", sh(script), stdout=PIPE, eof_grace=alone, term_grace=told) as running:
        assert line(running) == "ready"
        assert running.end() == status
    assert running.status == status


def test_what_it_has_started_is_left_alone():
    with started("it", sh("sleep 600 & echo $!; wait"), stdout=PIPE) as running:
        left = Process.of(int(line(running)))
    assert left.alive
    left.end()


def test_one_that_cannot_be_killed_is_not_waited_for(monkeypatch):
    """As one that waits for a disk that does not answer: here, for want of it, no signal comes."""
    monkeypatch.setattr(child, "END_TIMEOUT", 0.2)
    monkeypatch.setattr(signal, "pidfd_send_signal", lambda _fd, _number: None)
    with pytest.raises(HostTimeout, match=r"^it: process \d+ is still there 0\.2 s after SIGKILL$"):
        with started("it", ["sleep", "60"]) as running:
            pass
    os.kill(running.pid, signal.SIGKILL)
    os.waitpid(running.pid, 0)


def test_an_interrupted_wait_for_its_own_end_kills_it():
    main = threading.main_thread().ident
    with pytest.raises(KeyboardInterrupt):
        with started("it", ["sleep", "60"], eof_grace=LATE) as running:
            threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    assert running.status == -signal.SIGKILL


def test_an_interrupt_behind_its_start_ends_it():
    """It comes once the program is known, and before the block is."""
    begun = []

    def popen(*arguments, **options):
        begun.append(real(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return begun[0]

    real = child.subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(child.subprocess, "Popen", popen)
        with pytest.raises(KeyboardInterrupt), started("it", ["sleep", "60"]):
            pytest.fail("it runs")
    assert begun[0].returncode == -signal.SIGKILL


def test_one_that_cannot_be_watched_is_not_started(monkeypatch):
    def too_many(_pid):
        raise OSError(24, "Too many open files")

    begun = []
    real = child.subprocess.Popen
    monkeypatch.setattr(os, "pidfd_open", too_many)
    monkeypatch.setattr(
        child.subprocess, "Popen", lambda *a, **o: begun.append(real(*a, **o)) or begun[0]
    )
    with pytest.raises(HostError, match="cannot run it: .*Too many open files"):
        with started("it", ["sleep", "60"]):
            pytest.fail("it runs")
    assert begun[0].wait(LATE) == -signal.SIGKILL


def test_it_lives_on_if_it_is_left():
    with started("it", ["sleep", "600"], eof_grace=LATE, term_grace=LATE) as running:
        running.leave()
    left = Process.of(running.pid)
    assert left.alive
    left.end()


def test_signals_that_python_ignores_are_not_ignored_by_others(said):
    with started("it", sh("grep SigIgn /proc/$$/status"), stdout=said.keep) as running:
        assert running.wait(LATE)
    ignored = int(str(said).split()[1], 16)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & 1 << (number - 1)


# OutputTail.


def test_words_in_one_line():
    assert last_lines(b"\n one \n\n two\n") == "one; two"
    assert last_lines(b" \n") == "no reason given"


def test_the_first_and_the_last_words_are_kept(said):
    said.keep(b"a" * KEPT_BYTES)
    said.keep(b"b" * KEPT_BYTES)
    assert said.text == b"a" * KEPT_BYTES + b"b" * KEPT_BYTES
    for _ in range(3):
        said.keep(b"\nc")
    assert said.text[: KEPT_BYTES + 1] == b"a" * KEPT_BYTES + b"\n"
    assert said.text[KEPT_BYTES + 1 :] == b"b" * (KEPT_BYTES - 6) + b"\nc\nc\nc"


def test_who_hears_a_program_is_told_of_its_end_though_another_has_the_pipe(tmp_path):
    pieces = []
    script = f"sleep 600 & echo $! >{tmp_path}/pid; printf done"
    with started("it", ["sh", "-c", script], stdout=pieces.append) as child:
        assert child.wait(20)
        assert b"".join(pieces) == b"done"
        assert pieces[-1] == b""
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
