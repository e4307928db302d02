"""The command that leads to another host: real shells, and what they leave behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from xenqemu.errors import HostError, HostTimeout, ProtocolError
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.command import LINE_MAX, NOT_FOUND, ask, carried
from xenqemu.system.deadline import Deadline
from xenqemu.system.process import Process

LATE = 30.0


def read_line(wire):
    line = b""
    while not line.endswith(b"\n"):
        piece = wire.read(1, Deadline.after(LATE))
        assert piece
        line += piece
    return line.decode().strip()


def descriptors():
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def children():
    """Return the processes that were begun here and have not been asked how they ended."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def nothing_left():
    """See that no descriptor and no child outlives a test."""
    before = descriptors(), children()
    yield
    assert (descriptors(), children()) == before


IMPATIENT = Deadlines(peer_end=0.3, peer_answer=0.2)


def test_there_and_back():
    with carried("exec tr a-z A-Z") as there:
        there.wire.writev([b"hello, ", b"host"], Deadline.after(LATE))
        there.wire.hang_up()
        there.wire.hang_up()
        assert there.wire.read(100, Deadline.after(LATE)) == b"HELLO, HOST"
        assert there.wire.read(100, Deadline.after(LATE)) == b""
        assert there.end() == 0
        assert there.end() == 0


def test_the_shell_knows_all_of_sh():
    answer = ask(
        "read word; for i in 1 2; do echo $word$i; done | sort -r; exit 3", b"w\n", 99, LATE
    )
    assert (answer.data, answer.status) == (b"w2\nw1\n", 3)


def test_many_bytes_go_out_while_the_child_talks_aside():
    """Neither waits for the other: what is said aside is taken while the pipe is full."""
    lines = []
    rune = f"{sys.executable} -c 'import sys; sys.stderr.write(\"word\\n\" * 100000)'; exec wc -c"
    with carried(rune, lines.append) as there:
        data = memoryview(bytes(8 << 20))
        while data:
            data = data[there.wire.writev([data], Deadline.after(LATE)) :]
        there.wire.hang_up()
        assert int(there.wire.read(100, Deadline.after(LATE))) == 8 << 20
    assert lines == ["word"] * 100000


def test_what_it_says_aside_is_passed_on_by_the_line():
    lines = []
    rune = "printf 'one\\ntwo, ' >&2; sleep 0.1; printf 'three\\r\\n\\377\\n\\nend' >&2"
    with carried(rune, lines.append) as there:
        assert there.end() == 0
        assert there.ending().endswith("ended with status 0: one; two, three; \\xff; end")
    assert lines == ["one", "two, three", "\\xff", "", "end"]


def test_a_line_without_end_is_not_waited_for():
    lines = []
    with carried(f"head -c {3 * LINE_MAX + 5} /dev/zero | tr '\\0' x >&2", lines.append) as there:
        there.end()
    assert "".join(lines) == "x" * (3 * LINE_MAX + 5)
    assert max(map(len, lines)) < 2 * LINE_MAX


def test_only_the_last_lines_are_kept():
    with carried("seq 1 1000 >&2; exit 9") as there:
        shown = "993; 994; 995; 996; 997; 998; 999; 1000"
        assert there.ending() == f"'seq 1 1000 >&2; exit 9' ended with status 9: {shown}"


def test_a_silent_end():
    with carried("kill -9 $$") as there:
        assert there.ending() == "'kill -9 $$' ended with signal 9: no reason given"


def test_a_command_that_is_not_there():
    answer = ask("exec xenqemu-no-such-command", b"question", 99)
    assert (answer.status, answer.data) == (NOT_FOUND, b"")
    assert "xenqemu-no-such-command: not found" in answer.ending


def test_no_shell(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="cannot run 'true': .*No such file"), carried("true"):
        pass


@pytest.mark.parametrize(
    ("deaf", "status"),
    [("", -signal.SIGTERM), ("trap '' TERM; ", -signal.SIGKILL)],
    ids=["told", "made"],
)
def test_one_that_stays_is_ended_for_certain(deaf, status):
    with carried(f"{deaf}echo ready; while :; do sleep 0.05; done", deadlines=IMPATIENT) as there:
        assert read_line(there.wire) == "ready"
        began = time.monotonic()
        assert there.end() == status
        assert time.monotonic() - began < 20


def test_one_that_has_something_to_finish_is_let(tmp_path):
    rune = f"cat >/dev/null; sleep 0.5; echo done > {tmp_path}/file"
    with carried(rune, deadlines=IMPATIENT) as there:
        there.finish(LATE)
        assert there.end() == 0
    assert (tmp_path / "file").read_text() == "done\n"
    with carried(f"exec sleep 60; {rune}", deadlines=IMPATIENT) as there:
        there.finish(0.2)
        assert there.end() == -signal.SIGTERM


def test_one_that_floods_is_ended_too():
    with carried("exec yes", deadlines=IMPATIENT) as there:
        assert there.wire.read(2, Deadline.after(LATE)) == b"y\n"
        assert there.end() == -signal.SIGTERM


def test_what_it_leaves_behind_does_not_hold_us_up():
    """A child of the child keeps the pipes open, and goes on talking into them."""
    with carried("yes >&2 & echo $!; exit 4", deadlines=IMPATIENT) as there:
        left = Process.of(int(read_line(there.wire)))
        try:
            assert there.end() == 4
        finally:
            left.end()


def test_it_is_ended_if_the_block_fails():
    with pytest.raises(ZeroDivisionError), carried("echo $$; exec cat") as there:
        child = Process.of(int(read_line(there.wire)))
        raise ZeroDivisionError
    assert not child.alive


SIGNALLED = """
import os, signal
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.system.deadline import Deadline
from xenqemu.host.peer.command import carried
ours = []
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda *caught: ours.append(signal.Signals(caught[0]).name))
with carried("echo up; exec cat") as there:
    print(there.wire.read(3, Deadline.after(20)))
    os.killpg(0, signal.SIGINT)
    os.killpg(0, signal.SIGHUP)
    there.wire.writev([b"alive"], Deadline.after(20))
    print(there.wire.read(5, Deadline.after(20)), sorted(ours), there.end())
"""


def test_signals_of_a_terminal_reach_us_alone():
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED],
        capture_output=True,
        timeout=60,
        check=False,
        process_group=0,
    )
    assert done.stdout == b"b'up\\n'\nb'alive' ['SIGHUP', 'SIGINT'] 0\n", done.stderr


SLOW = 0.002
"""Seconds that a terminal takes for each line."""

HOSTILE = {
    "floods stderr": "yes >&2",
    "floods stderr, and has no more to say": "exec yes >&2",
    "floods stderr with empty lines": "exec tr '\\0' '\\n' </dev/zero >&2",
    "floods stderr without lines": "exec cat /dev/zero >&2",
    "floods stderr, deaf": "trap '' TERM; while :; do yes | head -c 100000 >&2; done",
    "floods both": "yes >&2 & exec yes",
    "trickles": "trap '' TERM; while :; do echo; sleep 0.02; done",
    "says nothing, deaf": "trap '' TERM; while :; do sleep 1; done",
    "stopped": "kill -STOP $$",
    "leaves a flood behind": "yes >&2 & exec sleep 60",
}
PROMPT = 4 * (IMPATIENT.peer_answer + 2 * IMPATIENT.peer_end) + 3
"""Seconds for all that ends a hostile command, on a busy machine."""


@pytest.mark.parametrize("rune", HOSTILE.values(), ids=HOSTILE)
def test_no_hostile_command_outlasts_the_deadlines(rune):
    began = time.monotonic()
    taken = []

    def on_stderr(line):
        time.sleep(SLOW)
        taken.append(line)

    with suppress(HostTimeout, ProtocolError):
        assert ask(rune, b"question", 1 << 20, on_stderr, IMPATIENT).data == b""
    assert time.monotonic() - began < PROMPT


def test_of_a_flood_only_so_much_is_passed_on_and_the_rest_is_counted():
    lines = []

    def on_stderr(line):
        time.sleep(SLOW)
        lines.append(line)

    with carried("seq 1 100000 >&2", on_stderr, IMPATIENT) as there:
        there.finish(LATE)
    left_out = [int(line[1:].split()[0]) for line in lines if line.endswith("were left out)")]
    assert left_out
    assert len(lines) - len(left_out) + sum(left_out) == 100_000


def test_what_it_says_is_one_short_visible_line():
    lines = []
    rune = "printf '\\033[2J\\rxenqemu: saved\\n' >&2; head -c 99999 /dev/zero >&2; exit 1"
    with carried(rune, lines.append, IMPATIENT) as there:
        there.finish(LATE)
        ending = there.ending()
    assert lines[0] == r"\x1b[2J\rxenqemu: saved"
    assert all(line.isprintable() for line in (*lines, ending))
    assert len(ending) < 3000


def test_words_are_run_without_a_shell(tmp_path):
    words = ("printf", "%s,", "$HOME", "`touch here`; touch there", "a  b")
    answer = ask(words, b"", 99)
    assert answer.data == b"$HOME,`touch here`; touch there,a  b,"
    assert "'$HOME'" in answer.ending
    assert ask(("xenqemu-no-such-command", "x"), b"", 99).status == NOT_FOUND


def test_an_answer():
    answer = ask("exec rev", b"abc\n", 4)
    assert (answer.data, answer.status) == (b"cba\n", 0)


def test_an_answer_without_reading_the_question():
    answer = ask("echo usage >&2; exit 2", bytes(4 << 20), 9)
    assert (answer.data, answer.status) == (b"", 2)
    assert answer.ending.endswith("ended with status 2: usage")


def test_an_answer_that_is_too_long():
    with pytest.raises(ProtocolError, match="an answer of more than 1000 bytes; 'exec yes' ended"):
        ask("exec yes", b"", 1000, deadlines=IMPATIENT)


@pytest.mark.parametrize("rune", ["exec sleep 60", "echo half; exec sleep 60"])
def test_no_answer_in_time(rune):
    with pytest.raises(HostTimeout, match="no answer within 0.2 s; .* ended with signal 15"):
        ask(rune, b"question", 99, deadlines=IMPATIENT)


def test_a_question_that_is_not_taken():
    with pytest.raises(HostTimeout, match="no answer within 0.2 s"):
        ask("exec sleep 60", bytes(4 << 20), 99, deadlines=IMPATIENT)


@pytest.mark.parametrize(
    ("rune", "said"),
    [
        ('echo "This account is not available."; exit 1', "This account is not available."),
        ('echo "why" >&2; exit 1', "why"),
        ('echo "one"; echo "two" >&2; exit 1', "two; one"),
        ("exit 1", "no reason given"),
    ],
)
def test_what_a_shell_says_on_its_output_is_its_reason(rune, said):
    assert ask(rune, b"", 1000).ending == f"{rune!r} ended with status 1: {said}"
