"""The sender's extra streams: real commands beside a receiver, and ones that break."""

import shlex

import pytest

from xenqemu.errors import HostError, HostTimeout, ProtocolError, ReplyLost
from xenqemu.formats.migration.stream_chunks import READY
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.extra_streams import streams_by
from xenqemu.host.peer.peer_messages import receiver_by

PATIENT = Deadlines(peer_stream=30, peer_stall=30, peer_end=5)
RECEIVER = "cat >/dev/null; echo no space >&2; exit 3"
SAYS_READY = f"printf %s {shlex.quote(READY.decode())}; "
FIRST = f"{RECEIVER!r} ended with status 3: no space"
RECORD = bytes(4 << 20)


def test_all_are_ready_one_after_the_other(tmp_path):
    """No command is begun before the one before it is there: only one asks for a password."""
    runes = [
        f"sleep 0.3; {SAYS_READY} echo {number} >> {tmp_path}/order; cat > {tmp_path}/{number}"
        for number in (1, 2)
    ]
    with (
        receiver_by(RECEIVER, deadlines=PATIENT) as peer,
        streams_by(runes, peer, deadlines=PATIENT) as streams,
    ):
        for number, stream in enumerate(streams, 1):
            Sink(stream).write(b"stream %d" % number)
    assert (tmp_path / "order").read_text() == "1\n2\n"
    assert (tmp_path / "1").read_bytes() == b"stream 1"
    assert (tmp_path / "2").read_bytes() == b"stream 2"


def test_none(tmp_path):
    with receiver_by(f"cat > {tmp_path}/it", deadlines=PATIENT) as peer:
        with streams_by((), peer, deadlines=PATIENT) as streams:
            assert streams == ()
            Sink(peer).write(b"all of it")
    assert (tmp_path / "it").read_bytes() == b"all of it"


NEVER = {
    "something else": ("echo Welcome", ProtocolError, r"expected b'xenqemu .*', got b'Welcome\\n'"),
    "a part": ("printf xenqemu", ReplyLost, "the other host closed the connection"),
    "nothing": ("exit 9", ReplyLost, "the other host closed the connection"),
    "silence": ("exec sleep 60", HostTimeout, "the other host sent nothing for 0.5 s"),
}


@pytest.mark.parametrize(("rune", "error", "why"), NEVER.values(), ids=NEVER.keys())
def test_one_that_is_not_ready(rune, error, why):
    impatient = Deadlines(peer_stream=0.5, peer_end=0.3)
    with receiver_by(RECEIVER, deadlines=PATIENT) as peer:
        runes = (f"{SAYS_READY} exec cat >/dev/null", rune, "exec touch /never")
        with pytest.raises(error, match=f"^waiting for stream 2: {why}; ") as caught:
            with streams_by(runes, peer, deadlines=impatient):
                pytest.fail("it is not there")
    assert f"; {FIRST}; {rune!r} ended with " in str(caught.value)


def test_one_that_breaks_tells_how_both_ended():
    rune = f"{SAYS_READY} head -c 100000 >/dev/null; echo no route >&2; exit 255"
    with receiver_by(RECEIVER, deadlines=PATIENT) as peer:
        with streams_by([rune], peer, deadlines=PATIENT) as (stream,):
            with pytest.raises(HostError, match="^sending the save file by stream 1: ") as caught:
                Sink(stream).write(RECORD)
    ending = (
        f"the other host closed the connection; {FIRST}; {rune!r} ended with status 255: no route"
    )
    assert str(caught.value).endswith(ending)


def test_one_that_takes_no_more():
    rune = f"{SAYS_READY} exec sleep 60"
    impatient = Deadlines(peer_stream=30, peer_stall=0.3, peer_end=0.3)
    words = "^sending the save file by stream 1: the other host read nothing for 0.3 s; "
    with receiver_by(RECEIVER, deadlines=PATIENT) as peer:
        with streams_by([rune], peer, deadlines=impatient) as (stream,):
            with pytest.raises(HostTimeout, match=words):
                Sink(stream).write(RECORD)


def test_all_are_hung_up_before_any_is_waited_for(tmp_path):
    """The other host may be listening to any of them: here none ends before all have heard."""
    ended = tmp_path / "ended"

    def rune(number):
        heard = f"cat >/dev/null; touch {tmp_path}/heard.{number}"
        all_heard = " -a ".join(f"-e {tmp_path}/heard.{each}" for each in range(3))
        return f"{heard}; until [ {all_heard} ]; do sleep 0.05; done; echo {number} >> {ended}"

    with receiver_by(rune(0), deadlines=PATIENT) as peer:
        runes = [SAYS_READY + rune(1), SAYS_READY + rune(2)]
        with pytest.raises(ZeroDivisionError), streams_by(runes, peer, deadlines=PATIENT) as two:
            raise ZeroDivisionError
        for each in (peer, *two):
            with pytest.raises(HostError, match="closed the conn"):
                each.writev([b"x"])
    assert sorted(ended.read_text().split()) == ["0", "1", "2"]
