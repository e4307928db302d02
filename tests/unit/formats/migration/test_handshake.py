"""xl's migration protocol: both sides, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden import save_files
from xenqemu.errors import ProtocolError
from xenqemu.formats.migration.handshake import (
    TRANSITIONS,
    WORDS,
    Handshake,
    HandshakeState,
    Message,
    Role,
)

BANNER, READY, GO, REPORT, STARTED, FAILED, BACK = Message

# As xl.h and xl_migrate.c have them.
BYTES = [
    (BANNER, b"xl migration receiver ready, send binary domain data.\n", 54),
    (READY, b"domain received, ready to unpause\0", 34),
    (GO, b"domain is yours, you are cleared to unpause\0", 44),
    (REPORT, b"my copy unpause results are as follows\0", 39),
    (STARTED, b"\0", 1),
    (FAILED, b"\3", 1),
    (BACK, b"domain is yours, you are cleared to unpause\0", 44),
]

MIGRATED = (BANNER, READY, GO, REPORT, STARTED)
RETURNED = (BANNER, READY, GO, REPORT, FAILED, BACK)
GIVEN_UP = (BANNER, READY, REPORT, FAILED, BACK)
TALKS = {"migrated": MIGRATED, "returned": RETURNED, "given up": GIVEN_UP}
ENDS = {
    MIGRATED: HandshakeState.MIGRATED,
    RETURNED: HandshakeState.RETURNED,
    GIVEN_UP: HandshakeState.RETURNED,
}

OTHER = {Role.SENDER: Role.RECEIVER, Role.RECEIVER: Role.SENDER}


def words(*messages):
    return b"".join(WORDS[message][1] for message in messages)


def at(role, *messages):
    """Return a side that has come as far as `messages`, spoken by whomever they are of."""
    side = Handshake(role)
    for message in messages:
        speaker, data = WORDS[message]
        if speaker is role:
            side.say(message)
        else:
            side.feed(data)
            assert side.heard() is message
    return side


def legal():
    """Give every state by the messages that lead there, and what may follow."""
    seen = {}
    for talk in TALKS.values():
        for count in range(len(talk) + 1):
            state = at(Role.RECEIVER, *talk[:count]).state
            seen[talk[:count]] = TRANSITIONS.get(state, {})
    return seen


PLACES = legal()


@pytest.mark.parametrize(("message", "data", "size"), BYTES, ids=lambda value: str(value)[:20])
def test_messages_are_xls(message, data, size):
    assert WORDS[message][1] == data
    assert len(data) == size


def test_stock_xl_sent_go_after_its_save_file():
    assert save_files.unpacked(save_files.MIGRATION).endswith(bytes(8) + WORDS[GO][1])


def test_every_state_is_reached_by_the_talks_that_are_tested():
    reached = {at(Role.SENDER, *place).state for place in PLACES}
    assert reached == set(HandshakeState)
    assert {message for talk in TALKS.values() for message in talk} == set(Message)


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS.keys())
def test_both_sides_of_a_talk(talk):
    sides = {role: Handshake(role) for role in Role}
    for message in talk:
        speaker = WORDS[message][0]
        sides[OTHER[speaker]].feed(sides[speaker].say(message))
        assert sides[OTHER[speaker]].heard() is message
        assert sides[Role.SENDER].state is sides[Role.RECEIVER].state
    assert {side.state for side in sides.values()} == {ENDS[talk]}
    assert {side.heard() for side in sides.values()} == {None}
    assert {side.awaited for side in sides.values()} == {"nothing"}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[-1].name if place else "NONE")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("message", Message)
def test_only_what_is_in_the_table_is_said(place, role, message):
    side = at(role, *place)
    before = side.state
    if WORDS[message][0] is role and message in PLACES[place]:
        assert side.say(message) == WORDS[message][1]
        assert side.state is PLACES[place][message]
    else:
        with pytest.raises(ValueError, match=f"no {message.value} can be sent by the {role.value}"):
            side.say(message)
        assert side.state is before


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[-1].name if place else "NONE")
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("message", Message)
def test_only_what_is_in_the_table_is_accepted(place, role, message):
    side = at(role, *place)
    before = side.state
    may = {WORDS[next_][1]: next_ for next_ in PLACES[place] if WORDS[next_][0] is OTHER[role]}
    side.feed(WORDS[message][1])
    if WORDS[message][1] in may:
        heard = side.heard()
        assert heard is may[WORDS[message][1]]
        assert side.state is PLACES[place][heard]
        assert side.heard() is None
    elif FAILED in may.values() and message is not STARTED:  # its first byte is a status
        assert side.heard() is FAILED
        with pytest.raises(ProtocolError):
            side.heard()
    else:
        for _ in range(2):  # it stays so
            with pytest.raises(ProtocolError, match=f"expected {side.awaited}, got '"):
                side.heard()
            assert side.state is before


@pytest.mark.parametrize("talk", TALKS.values(), ids=TALKS.keys())
@pytest.mark.parametrize("role", Role)
def test_cut_at_every_offset(role, talk):
    """What is whole is heard, what is cut is waited for."""
    side = Handshake(role)
    for message in talk:
        speaker, data = WORDS[message]
        if speaker is role:
            side.say(message)
            continue
        for byte in range(len(data)):
            assert side.heard() is None
            side.feed(data[byte : byte + 1])
        assert side.heard() is message


@pytest.mark.parametrize("message", [BANNER, READY, GO, REPORT, BACK])
def test_any_byte_that_is_wrong_is_seen_at_once(message):
    speaker, data = WORDS[message]
    talk = next(talk for talk in TALKS.values() if message in talk)
    before = talk[: talk.index(message)]
    for place in range(len(data)):
        side = at(OTHER[speaker], *before)
        side.feed(data[:place] + bytes([data[place] ^ 0x20]))
        with pytest.raises(ProtocolError):
            side.heard()


@pytest.mark.parametrize("code", range(1, 256))
def test_every_status_but_0_is_a_failure(code):
    side = at(Role.SENDER, BANNER, READY, GO, REPORT)
    side.feed(bytes([code]) + words(BACK))
    assert side.heard() is FAILED
    assert side.code == code
    assert side.heard() is BACK


def test_a_receiver_that_gave_up_cannot_have_started_it():
    side = at(Role.SENDER, BANNER, READY, REPORT)
    side.feed(words(STARTED))
    with pytest.raises(ProtocolError, match=r"byte 127 .*: expected failure status, got '\\x00'"):
        side.heard()


def test_giving_up_and_go_may_cross():
    sender = at(Role.SENDER, BANNER, READY)
    receiver = at(Role.RECEIVER, BANNER, READY)
    given_up = b"".join(receiver.say(message) for message in (REPORT, FAILED, BACK))
    sender.say(GO)
    sender.feed(given_up)
    assert [sender.heard() for _ in range(4)] == [REPORT, FAILED, BACK, None]
    assert sender.state is receiver.state is HandshakeState.RETURNED


BEGIN, SAYS = "byte", " of what the other host says: expected"
HINT = "; is there a login script over there that prints on standard output?"
MISUNDERSTOOD = {
    "a login banner": (
        Role.SENDER,
        (),
        b"Debian GNU/Linux 12\nLast login: today\n",
        f"{BEGIN} 0{SAYS} banner, got 'Debian GNU/Linux 12\\nLast login: today\\n'{HINT}",
    ),
    "a banner behind another": (
        Role.SENDER,
        (),
        b"x" + words(BANNER),
        f"{BEGIN} 0{SAYS} banner, got 'x{WORDS[BANNER][1].decode()[:-1]}\\n'{HINT}",
    ),
    "far too much": (
        Role.SENDER,
        (BANNER,),
        b"y" * 1000,
        f"{BEGIN} 54{SAYS} ready message, got '{'y' * 64}'",
    ),
    "more than all": (
        Role.SENDER,
        MIGRATED,
        b"!",
        f"{BEGIN} 128{SAYS} nothing, got '!'",
    ),
    "bytes that steer a terminal": (
        Role.RECEIVER,
        (BANNER, READY),
        b"\x1b[2Jdomain",
        f"{BEGIN} 0{SAYS} GO message, got '\\x1b[2Jdomain'",
    ),
}


@pytest.mark.parametrize(
    ("role", "before", "data", "text"), MISUNDERSTOOD.values(), ids=MISUNDERSTOOD.keys()
)
def test_what_came_is_shown(role, before, data, text):
    side = at(role, *before)
    side.feed(data)
    with pytest.raises(ProtocolError) as caught:
        side.heard()
    assert str(caught.value) == text


def heard_or_error(side, pieces):
    """Return what is heard of `pieces`, and whether an error ended it."""
    messages = []
    try:
        for piece in pieces:
            side.feed(piece)
            while message := side.heard():
                messages.append(message)
    except ProtocolError:
        return messages, True
    return messages, False


@given(
    role=st.sampled_from(Role),
    place=st.sampled_from(sorted(PLACES, key=len)),
    data=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(Message), max_size=4).map(lambda talk: words(*talk)),
    ),
    size=st.integers(1, 60),
)
def test_any_bytes_split_in_any_way_are_the_same(role, place, data, size):
    whole = at(role, *place)
    split = at(role, *place)
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert heard_or_error(whole, [data]) == heard_or_error(split, pieces)
    assert whole.state is split.state


@given(place=st.sampled_from(sorted(PLACES, key=len)), data=st.binary(min_size=1, max_size=200))
def test_random_bytes_never_are_a_go(place, data):
    side = at(Role.RECEIVER, *place)
    heard, _ = heard_or_error(side, [data])
    assert heard == ([GO] if data == words(GO) and GO in PLACES[place] else [])
