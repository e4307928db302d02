"""Descriptors to another host: deadlines, ends, and a standard output that stays clean."""

import os
import socket
import subprocess
import sys
import time

import pytest

from xenqemu.errors import HostTimeout, Truncated
from xenqemu.formats.stream.source import Source
from xenqemu.host.peer.wire import Incoming, Wire, standard_wire
from xenqemu.system.child import PIPE, started
from xenqemu.system.deadline import Deadline

SOON = 0.05
LATE = 20.0


def raw(fd, mode):
    return open(fd, mode, buffering=0)


class Ends:
    """The other host's side: what it reads from, what it writes to."""

    def __init__(self, hears, says):
        self.hears, self.says = raw(hears, "rb"), raw(says, "wb")

    def close(self):
        self.hears.close()
        self.says.close()


def pipes():
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    return ours_in, ours_out, theirs_in, theirs_out


def sockets():
    ours, theirs = socket.socketpair()
    return os.dup(ours.fileno()), ours.detach(), os.dup(theirs.fileno()), theirs.detach()


@pytest.fixture(params=[pipes, sockets])
def ends(request):
    """Yield a wire and the other side of it."""
    ours_in, ours_out, theirs_in, theirs_out = request.param()
    with raw(ours_in, "rb") as incoming, raw(ours_out, "wb") as outgoing:
        theirs = Ends(theirs_in, theirs_out)
        yield Wire(incoming, outgoing), theirs
        theirs.close()


def test_both_ways(ends):
    wire, theirs = ends
    assert wire.writev([b"ab", memoryview(b"c")], Deadline.after(LATE)) == 3
    assert theirs.hears.read(10) == b"abc"
    theirs.says.write(b"12345")
    assert wire.read(2, Deadline.after(LATE)) == b"12"
    assert wire.read(9, Deadline.after(LATE)) == b"345"


def test_silence_has_a_deadline(ends):
    wire, _theirs = ends
    with pytest.raises(HostTimeout, match="the other host sent nothing"):
        wire.read(1, Deadline.after(SOON))


def test_a_full_pipe_has_a_deadline(ends):
    wire, theirs = ends
    os.set_blocking(wire.outgoing.fileno(), False)
    with pytest.raises(HostTimeout, match="the other host read nothing"):
        while True:
            wire.writev([bytes(1 << 16)], Deadline.after(SOON))
    theirs.hears.read(1 << 20)
    assert wire.writev([bytes(1 << 16)], Deadline.after(LATE)) > 0


@pytest.mark.parametrize("ends", [pipes], indirect=True)
def test_the_end_of_their_output_is_not_the_end_of_their_input(ends):
    wire, theirs = ends
    theirs.says.close()
    assert wire.read(1, Deadline.after(LATE)) == b""
    assert wire.writev([b"x"], Deadline.after(LATE)) == 1
    theirs.hears.close()
    with pytest.raises(BrokenPipeError):
        wire.writev([b"x"], Deadline.after(LATE))


@pytest.mark.parametrize("ends", [pipes], indirect=True)
def test_who_has_hung_up_says_no_more(ends):
    """Least of all to whatever the descriptor has become meanwhile."""
    wire, theirs = ends
    wire.hang_up()
    wire.hang_up()
    assert theirs.hears.read(1) == b""
    with pytest.raises(BrokenPipeError, match="closed already"):
        wire.writev([b"x"], Deadline.after(LATE))
    theirs.says.write(b"bye")
    assert wire.read(3, Deadline.after(LATE)) == b"bye"


def test_a_socket_that_was_closed_with_something_unread(ends):
    wire, theirs = ends
    wire.writev([b"unread"], Deadline.after(LATE))
    theirs.close()
    assert wire.read(1, Deadline.after(LATE)) == b""
    with pytest.raises(BrokenPipeError):
        wire.writev([b"x"], Deadline.after(LATE))


def test_what_is_said_aside_is_heard_while_waiting(ends):
    wire, theirs = ends
    heard = []

    def hear(piece):
        heard.append(piece)
        if not piece:  # at its end they begin to speak
            theirs.says.write(b"now")

    script = "printf aside >&2; read word; exec 2>&-; sleep 60"
    with started("it", ["sh", "-c", script], stdin=PIPE, stderr=hear) as talker:
        listening = Wire(wire.incoming, wire.outgoing, talker.ready)
        while not heard:
            with pytest.raises(HostTimeout):
                listening.read(3, Deadline.after(SOON))
        talker.hang_up()
        assert listening.read(3, Deadline.after(LATE)) == b"now"
        assert heard == [b"aside", b""]
        with pytest.raises(HostTimeout):  # it listens to the end no more
            listening.read(3, Deadline.after(SOON))
        assert heard == [b"aside", b""]


def test_a_source_reads_what_comes_and_nothing_ahead(ends):
    wire, theirs = ends
    theirs.says.write(b"record!")
    source = Source(Incoming(wire, SOON))
    assert source.exact(6, "record") == b"record"
    room = memoryview(bytearray(2))
    theirs.says.write(b"?then")
    source.into(room, "record")
    assert bytes(room) == b"!?"
    assert wire.read(10, Deadline.after(LATE)) == b"then"
    with pytest.raises(HostTimeout):
        source.exact(1, "record")


def test_a_source_whose_sender_hangs_up(ends):
    wire, theirs = ends
    theirs.says.write(b"reco")
    theirs.close()
    with pytest.raises(Truncated, match="expected 6 bytes, got 4 and then the end"):
        Source(Incoming(wire, LATE)).exact(6, "record")


CHATTY = """
import os, subprocess, sys
from xenqemu.system.cancellation import Deadline
from xenqemu.host.peer.wire import standard_wire
print("before")
with standard_wire() as wire:
    print("stray")
    subprocess.run("echo stray too; cat", shell=True, check=True)
    said = wire.read(100, Deadline.after(20))
    wire.writev([b"heard " + said], Deadline.after(20))
print("after", sys.stdin.read())
"""


def test_nothing_that_is_printed_gets_onto_the_wire():
    child = subprocess.Popen(
        [sys.executable, "-c", CHATTY],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # so that a word is left over in the end
    )
    child.stdin.write(b"hello")
    child.stdin.flush()
    out = b""
    while b"hello" not in out:
        out += os.read(child.stdout.fileno(), 100)
    rest, errors = child.communicate(b"rest", timeout=60)
    assert child.returncode == 0, errors
    assert out + rest == b"before\nheard helloafter rest\n"
    assert errors == b"stray too\nstray\n"


def test_standard_streams_are_released_whatever_happens():
    before = [os.fstat(fd).st_ino for fd in (0, 1, 2)]
    count = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(ZeroDivisionError), standard_wire():
        assert os.fstat(1).st_ino == before[2]
        raise ZeroDivisionError
    assert [os.fstat(fd).st_ino for fd in (0, 1, 2)] == before
    assert len(os.listdir("/proc/self/fd")) == count  # noqa: PTH208


def test_a_deadline_that_has_passed_still_finds_what_is_there(ends):
    wire, theirs = ends
    theirs.says.write(b"x")
    time.sleep(0.01)
    assert wire.read(1, Deadline.after(0)) == b"x"
