"""Two hosts that talk: real processes, real pipes, and one that dies or stalls anywhere."""

import hashlib
import os
import select
import shlex
import sys
from contextlib import ExitStack

import pytest

from tests.golden import save_files
from xenqemu.errors import HostError, HostTimeout, ProtocolError, ReplyLost
from xenqemu.formats.migration.handshake import WORDS, HandshakeState, Message, Role
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.peer_messages import Peer, receiver_by
from xenqemu.host.peer.wire import Wire

BANNER, READY, GO, REPORT, STARTED, FAILED, BACK = Message

MIGRATED = (BANNER, READY, GO, REPORT, STARTED)
RETURNED = (BANNER, READY, GO, REPORT, FAILED, BACK)
GIVEN_UP = (BANNER, READY, REPORT, FAILED, BACK)
ENDS = {
    MIGRATED: HandshakeState.MIGRATED,
    RETURNED: HandshakeState.RETURNED,
    GIVEN_UP: HandshakeState.RETURNED,
}

RECORD = save_files.unpacked("hvm.save")[: 3 << 20]

RECEIVER = """
import hashlib, os, sys, time
from xenqemu.formats.migration.handshake import Message
from xenqemu.formats.stream.source import Source
from xenqemu.host.peer.peer_messages import sender_at_standard_streams
size, then, *talk = sys.argv[1:]
with sender_at_standard_streams() as peer:
    for name in talk:
        message = Message[name]
        if message is Message.READY:
            record = Source(peer.save_file()).exact(int(size), "record")
            print(hashlib.sha256(record).hexdigest(), flush=True)
        if message is Message.GO:
            print(peer.receive(), flush=True)
        else:
            peer.send(message)
    if then == "exit":
        sys.exit("no space")
    if then == "kill":
        os.kill(os.getpid(), 9)
    if then == "stall":
        time.sleep(60)
"""
"""A receiver that comes as far as `talk`; what it prints it prints aside."""


@pytest.fixture
def receiver(tmp_path):
    """Make the command of a receiver that comes as far as `talk`, and then does something."""
    script = tmp_path / "receiver.py"
    script.write_text(RECEIVER)

    def make(talk, then="end"):
        names = " ".join(message.name for message in talk)
        program = f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"
        return f"exec {program} {len(RECORD)} {then} {names}"

    return make


PATIENT = Deadlines(peer_end=0.5)


def follow(peer, talk):
    """Hear a talk as the sender, and say what is ours."""
    for message in talk:
        if message is READY:
            Sink(peer).write(RECORD)
        if message is GO:
            peer.send(GO)
        else:
            assert peer.receive() is message


@pytest.mark.parametrize("talk", ENDS, ids=["moved", "returned", "given up"])
def test_two_ends_talk(receiver, talk):
    lines = []
    with receiver_by(receiver(talk), lines.append, PATIENT) as peer:
        follow(peer, talk)
        assert peer.handshake.state is ENDS[talk]
        assert peer.handshake.role is Role.SENDER
    digest = hashlib.sha256(RECORD).hexdigest()
    assert lines == [digest, "Message.GO"] if GO in talk else [digest]


PLACES = {
    (): "waiting for its banner",
    (BANNER, READY): "waiting for its success/failure report message",
    (BANNER, READY, GO): "waiting for its success/failure report message",
    (BANNER, READY, REPORT): "waiting for its failure status",
    (BANNER, READY, GO, REPORT): "waiting for its success status or failure status",
    (BANNER, READY, REPORT, FAILED): "waiting for its permission for sender to resume",
    (BANNER, READY, GO, REPORT, FAILED): "waiting for its permission for sender to resume",
}
"""All the places at which a sender waits, but for the ready message, and what it is doing there."""


def test_every_place_is_tried():
    begun = {talk[:count] for talk in ENDS for count in range(len(talk))}
    assert set(PLACES) == begun - {(BANNER,)}


@pytest.mark.parametrize("talk", PLACES, ids=lambda talk: talk[-1].name if talk else "NONE")
@pytest.mark.parametrize(
    ("then", "ending"),
    [("exit", "status 1: .*no space"), ("kill", "signal 9: ")],
    ids=["exit", "kill"],
)
def test_a_receiver_that_dies(receiver, talk, then, ending):
    with receiver_by(receiver(talk, then), deadlines=PATIENT) as peer:
        follow(peer, talk)
        with pytest.raises(ReplyLost, match=f"; 'exec .*' ended with {ending}") as caught:
            peer.receive()
    assert str(caught.value).startswith(f"{PLACES[talk]}: the other host closed the connection; ")


@pytest.mark.parametrize("talk", PLACES, ids=lambda talk: talk[-1].name if talk else "NONE")
def test_a_receiver_that_stalls(receiver, talk):
    waiting = PATIENT.but(peer_message=0.5, peer_banner=30.0 if talk else 0.5)
    with receiver_by(receiver(talk, "stall"), deadlines=waiting) as peer:
        follow(peer, talk)
        with pytest.raises(HostTimeout, match="'exec .*' ended with signal 15") as caught:
            peer.receive()
    words = f"{PLACES[talk]}: the other host sent nothing for 0.5 s; "
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("then", ["exit", "kill"])
def test_a_receiver_that_dies_before_the_record_is_out(receiver, then):
    with receiver_by(receiver([BANNER], then), deadlines=PATIENT) as peer:
        assert peer.receive() is BANNER
        with pytest.raises(
            HostError, match="sending the save file: the other host closed the connection; 'exec"
        ):
            Sink(peer).write(RECORD)


def test_a_receiver_that_takes_no_more_of_the_record(receiver):
    with receiver_by(receiver([BANNER], "stall"), deadlines=PATIENT.but(peer_stall=0.3)) as peer:
        assert peer.receive() is BANNER
        words = "sending the save file: the other host read nothing for 0.3 s; 'exec"
        with pytest.raises(HostTimeout, match=words):
            Sink(peer).write(RECORD)


def test_a_receiver_that_does_not_say_that_it_is_ready(receiver):
    rune = receiver([BANNER], "end").removeprefix("exec ") + "; exec sleep 60"
    with receiver_by(f"cat >/dev/null & {rune}", deadlines=PATIENT.but(peer_ready=0.3)) as peer:
        assert peer.receive() is BANNER
        words = "waiting for its ready message: the other host sent nothing for 0.3 s"
        with pytest.raises(HostTimeout, match=words):
            peer.receive()


def test_go_cannot_be_sent_to_one_that_died(receiver):
    with receiver_by(receiver([BANNER, READY], "exit"), deadlines=PATIENT) as peer:
        follow(peer, [BANNER, READY])
        gone = select.poll()
        gone.register(peer.wire.outgoing, 0)
        assert gone.poll(30_000) == [(peer.wire.outgoing.fileno(), select.POLLERR)]
        words = "sending the GO message: the other host closed the connection; .*no space"
        with pytest.raises(HostError, match=words):
            peer.send(GO)


def test_go_is_not_sent_once_the_other_host_was_given_up(receiver):
    with receiver_by(receiver([BANNER, READY], "exit"), deadlines=PATIENT) as peer:
        follow(peer, [BANNER, READY])
        with pytest.raises(ReplyLost):
            peer.receive()
        with pytest.raises(
            HostError, match="sending the GO message: the other host closed the connection"
        ):
            peer.send(GO)


def test_a_login_banner_is_shown_with_the_command():
    rune = "printf 'Welcome to Debian\\n'; exec cat"
    with receiver_by(rune, deadlines=PATIENT) as peer:
        with pytest.raises(ProtocolError, match="a login script .* ended with status 0") as caught:
            peer.receive()
    assert "expected banner, got 'Welcome to Debian\\n'" in str(caught.value)
    assert repr(rune) in str(caught.value)


def test_a_command_that_is_not_there():
    with receiver_by("exec no-such-xl migrate-receive", deadlines=PATIENT) as peer:
        with pytest.raises(ReplyLost, match="ended with status 127: .*no-such-xl: not found"):
            peer.receive()


@pytest.fixture
def sender():
    """Yield a receiver's side of a wire, and what the sender's side writes to and reads from."""
    with ExitStack() as stack:

        def piped():
            ends = zip(os.pipe(), ("rb", "wb"), strict=True)
            return [stack.enter_context(open(fd, mode, buffering=0)) for fd, mode in ends]

        hears, outgoing = piped()
        incoming, says = piped()
        waiting = PATIENT.but(peer_message=0.3, peer_stall=0.3)
        yield Peer(Role.RECEIVER, Wire(incoming, outgoing), None, waiting), says, hears


def test_a_receiver_waits_for_go(sender):
    peer, says, hears = sender
    peer.send(BANNER)
    says.write(RECORD[:1000])
    assert Source(peer.save_file()).exact(1000, "record") == RECORD[:1000]
    peer.send(READY)
    with pytest.raises(HostTimeout, match="its GO message: the other host sent nothing for 0.3 s$"):
        peer.receive()
    says.write(WORDS[GO][1])
    assert peer.receive() is GO
    peer.send(REPORT)
    peer.send(STARTED)
    assert hears.read(1000) == b"".join(WORDS[m][1] for m in (BANNER, READY, REPORT, STARTED))


@pytest.mark.parametrize("cut", [0, 1, 43])
def test_a_sender_that_hangs_up_before_go_is_whole(sender, cut):
    peer, says, _hears = sender
    peer.send(BANNER)
    peer.send(READY)
    says.write(WORDS[GO][1][:cut])
    says.close()
    with pytest.raises(
        ReplyLost, match="waiting for its GO message: the other host closed the connection$"
    ):
        peer.receive()
    for message in (REPORT, FAILED, BACK):
        peer.send(message)


def test_a_sender_that_says_something_else(sender):
    peer, says, _hears = sender
    peer.send(BANNER)
    peer.send(READY)
    says.write(b"domain is mine")
    with pytest.raises(ProtocolError, match="expected GO message, got 'domain is mine'"):
        peer.receive()


def test_a_sender_that_is_gone_cannot_be_sent_to(sender):
    peer, _says, hears = sender
    hears.close()
    with pytest.raises(
        HostError, match="sending the banner: the other host closed the connection$"
    ):
        peer.send(BANNER)


def test_a_record_that_stalls(sender):
    peer, says, _hears = sender
    says.write(b"some")
    with pytest.raises(HostTimeout, match="the other host sent nothing"):
        Source(peer.save_file()).exact(5, "record")
