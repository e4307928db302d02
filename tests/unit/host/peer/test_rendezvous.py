"""Where streams meet: real processes that come, come late, come twice, or never."""

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from xenqemu.errors import HostError, HostTimeout, ReplyLost
from xenqemu.formats.stream.source import Source
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.rendezvous import JOINED, rendezvous
from xenqemu.host.peer.wire import Wire

TOKEN = "0123abcd"
PATIENT = Deadlines(peer_stream=30, peer_stall=30, peer_end=5)
NOBODY = 65534

JOINER = """
import sys, time
from pathlib import Path
from xenqemu.errors import HostError
from xenqemu.host.peer.rendezvous import joined
folder, token, number, pause = sys.argv[1:]
time.sleep(float(pause))
try:
    with joined(Path(folder), token, int(number)):
        print("joined", flush=True)
except HostError as error:
    sys.exit(str(error))
"""

LISTENER = """
import sys, time
from pathlib import Path
from xenqemu.host.peer.rendezvous import rendezvous
with rendezvous(Path(sys.argv[1]), sys.argv[2], 2):
    print("listening", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "operations"


@pytest.fixture
def join(folder):
    """Start what brings a stream; give its process."""
    with ExitStack() as stack:

        def start(number, token=TOKEN, pause=0.0):
            pipe = subprocess.PIPE
            command = [sys.executable, "-c", JOINER, folder, token, number, pause]
            process = subprocess.Popen(
                list(map(str, command)), bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def first():
    """The first stream, and what the sender says by it."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as comes, open(writing, "wb", buffering=0) as says:
        yield Wire(comes, comes), says


def place(folder):
    return folder / f"{TOKEN}.meet"


def said(process):
    """Return how a stream's process ended and what it said."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


GOOD = (0, "joined\n", "")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("pause", [0.0, 0.5], ids=["at once", "late"])
def test_all_come(folder, join, first, order, pause):
    with rendezvous(folder, TOKEN, 3, PATIENT) as met:
        assert stat.S_IMODE(place(folder).stat().st_mode) == 0o600
        processes = {number: join(number, pause=pause) for number in order}
        inlets = met.streams(first[0])
        for number, process in processes.items():
            process.stdin.write(b"stream %d" % number)
        assert [Source(inlet).exact(8, "x") for inlet in inlets] == [b"stream 1", b"stream 2"]
        assert all(process.poll() is None for process in processes.values())
        met.taken()
        assert [said(process) for process in processes.values()] == [GOOD, GOOD]
    assert [*folder.iterdir()] == [folder / "lock"]


def test_the_end_of_a_stream_is_seen(folder, join, first):
    with rendezvous(folder, TOKEN, 2, PATIENT) as met:
        process = join(1)
        (inlet,) = met.streams(first[0])
        process.stdin.write(b"last")
        process.kill()
        process.stdin.close()
        assert inlet.read(10) == b"last"
        assert inlet.read(10) == b""
        met.taken()


def test_a_stream_that_stalls_is_named(folder, join, first):
    with rendezvous(folder, TOKEN, 2, Deadlines(peer_stream=30, peer_stall=0.3)) as met:
        process = join(1)
        (inlet,) = met.streams(first[0])
        with pytest.raises(HostTimeout, match="^stream 1: the other host sent nothing$"):
            inlet.read(1)
        assert process.poll() is None


def test_a_receiver_that_gives_up(folder, join, first):
    with pytest.raises(ZeroDivisionError), rendezvous(folder, TOKEN, 2, PATIENT) as met:
        process = join(1)
        met.streams(first[0])
        raise ZeroDivisionError
    assert said(process) == (1, "joined\n", "the receiver gave up\n")
    assert not place(folder).exists()


def test_one_that_never_comes(folder, join, first):
    impatient = Deadlines(peer_stream=1.5, peer_end=0.3)
    with rendezvous(folder, TOKEN, 3, impatient) as met:
        join(1)
        with pytest.raises(HostTimeout, match="stream 2 of 3: it did not come within 3 s$"):
            met.streams(first[0])
    assert not place(folder).exists()


@pytest.mark.parametrize("word", [b"", b"GO"], ids=["nothing", "something"])
def test_a_sender_that_does_not_wait_for_its_streams(folder, first, word):
    wire, says = first
    with rendezvous(folder, TOKEN, 2, PATIENT) as met:
        says.write(word)
        says.close()
        with pytest.raises(
            ReplyLost, match="waiting for stream 1 of 2: the other host closed the connection"
        ):
            met.streams(wire)


def unwanted(number):
    return (1, "", f"the receiver refused stream {number}\n")


@pytest.mark.parametrize("number", [0, 3, 255])
def test_one_that_there_is_not(folder, join, first, number):
    with rendezvous(folder, TOKEN, 2, PATIENT) as met:
        with ThreadPoolExecutor(1) as pool:
            met_by = pool.submit(met.streams, first[0])
            assert said(join(number)) == unwanted(number)
            wanted = join(1)
            met_by.result()
        met.taken()
        assert said(wanted) == GOOD


def test_one_that_comes_twice(folder, join, first):
    with rendezvous(folder, TOKEN, 3, PATIENT) as met:
        with ThreadPoolExecutor(1) as pool:
            met_by = pool.submit(met.streams, first[0])
            twins = [join(1), join(1)]
            while all(twin.poll() is None for twin in twins):
                time.sleep(0.05)
            last = join(2)
            met_by.result()
        met.taken()
        assert sorted(map(said, twins)) == [GOOD, unwanted(1)]
        assert said(last) == GOOD


@pytest.mark.parametrize("others", ["00000000", "0123abce"])
def test_one_that_comes_before_its_receiver(folder, join, others):
    with rendezvous(folder, others, 2, PATIENT):
        code, out, err = said(join(1))
    assert (code, out) == (1, "")
    assert err.startswith("there is no receiver for stream 1: ")


STRANGERS = {
    "says nothing": lambda _: None,
    "brings nothing": lambda stranger: stranger.send(b"\1"),
    "hangs up": lambda stranger: stranger.close(),
}


@pytest.mark.parametrize("act", STRANGERS.values(), ids=STRANGERS.keys())
def test_one_that_brings_nothing(folder, join, first, act):
    impatient = Deadlines(peer_stream=30, peer_stall=30, peer_end=0.3)
    with rendezvous(folder, TOKEN, 2, impatient) as met:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(place(folder)))
            act(stranger)
            process = join(1)
            (inlet,) = met.streams(first[0])
        process.stdin.write(b"it")
        assert inlet.read(2) == b"it"
        met.taken()
        assert said(process) == GOOD


def as_nobody(path):
    """Offer a stream as another user; exit with what came of it."""
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(30)
        stranger.connect(str(path))
        socket.send_fds(stranger, [b"\1"], [0])
        os._exit(1 if stranger.recv(1) == JOINED else 42)


def test_another_user(join, first):
    """Even where somebody has opened the folder to others."""
    with tempfile.TemporaryDirectory(prefix="meeting.") as made:
        folder = Path(made)
        with rendezvous(folder, TOKEN, 2, Deadlines(peer_stream=1, peer_end=5)) as met:
            folder.chmod(0o755)
            place(folder).chmod(0o666)
            child = os.fork()
            if not child:
                try:
                    as_nobody(place(folder))
                finally:
                    os._exit(2)
            with pytest.raises(HostTimeout):
                met.streams(first[0])
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def test_what_a_killed_receiver_left_is_removed_by_the_next(folder, join, first):
    command = [sys.executable, "-c", LISTENER, folder, TOKEN]
    receiver = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    try:
        assert receiver.stdout.read(10) == b"listening\n"
        with rendezvous(folder, "00000000", 2, PATIENT):
            assert place(folder).exists()  # somebody listens there
        receiver.send_signal(signal.SIGKILL)
        receiver.wait()
        assert said(join(1))[2].startswith("there is no receiver for stream 1: ")
        assert place(folder).exists()
        with rendezvous(folder, "00000000", 2, PATIENT):
            assert not place(folder).exists()
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()


def test_a_token_that_somebody_has(folder):
    with rendezvous(folder, TOKEN, 2, PATIENT):
        with (
            pytest.raises(HostError, match="cannot listen for streams: .*in use"),
            rendezvous(folder, TOKEN, 2, PATIENT),
        ):
            pass
        assert place(folder).exists()


def test_a_folder_that_others_may_write_to(folder, join):
    folder.mkdir()
    folder.chmod(0o777)
    with (
        pytest.raises(HostError, match="writable by nobody else"),
        rendezvous(folder, TOKEN, 2, PATIENT),
    ):
        pass
    assert "writable by nobody else" in said(join(1))[2]


def test_no_descriptor_is_left(folder, join, first):
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with rendezvous(folder, TOKEN, 2, PATIENT) as met:
        process = join(1)
        met.streams(first[0])
        met.taken()
        said(process)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
