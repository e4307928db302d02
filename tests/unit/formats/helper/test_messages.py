"""Messages and argument lists of libxl's save helper, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.xen.helper_talk import PAIRS, STREAM
from xenqemu.errors import BadRecord, FormatError, TooBig, Unsupported
from xenqemu.formats.helper import messages as hm
from xenqemu.formats.helper.dialects import (
    DIALECTS,
    RESTORE,
    SAVE,
    Call,
    dialect_of,
    parse_arguments,
)

NEWEST = DIALECTS[-1]

MESSAGES = [message for message, _ in PAIRS]


@pytest.mark.parametrize(("message", "data"), PAIRS, ids=lambda value: getattr(value, "NAME", ""))
def test_a_message_and_its_bytes(message, data):
    assert NEWEST.pack(message) == data
    assert list(NEWEST.reader().feed(data)) == [message]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4096])
def test_messages_split_and_joined_in_any_way(size):
    reader = NEWEST.reader()
    pieces = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [message for piece in pieces for message in reader.feed(piece)] == MESSAGES
    assert reader.offset == len(STREAM)


def test_output_cut_at_every_offset_gives_what_is_whole():
    ends = [sum(len(data) for _, data in PAIRS[:count]) for count in range(len(PAIRS) + 1)]
    for cut in range(len(STREAM)):
        reader = NEWEST.reader()
        whole = sum(end <= cut for end in ends) - 1
        assert list(reader.feed(STREAM[:cut])) == MESSAGES[:whole]
        assert reader.offset == ends[whole]
        assert list(reader.feed(STREAM[cut:])) == MESSAGES[whole:]


BAD = {
    "no number": b"\0\0",
    "half a number": b"\1\0\1",
    "number 0": b"\2\0\0\0",
    "number 11": b"\2\0\x0b\0",
    "an argument missing": b"\6\0\7\0\0\0\0\0",
    "half an argument": b"\4\0\x08\0\0\0",
    "a byte too much": b"\3\0\3\0\0",
    "a string of 0 bytes": b"\x1a\0\2\0" + bytes(24),
    "a string beyond the message": b"\x0c\0\2\0\xff\xff\xff\xff\0\0\0\0\0\0",
    "a string without NUL": b"\x1b\0\2\0\1\0\0\0x\1\0\0\0\0" + bytes(16),
    "a string with two": b"\x1c\0\2\0\2\0\0\0\0\0\1\0\0\0\0" + bytes(15),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_is_no_message_is_refused_by_its_offset(data):
    reader = NEWEST.reader()
    with pytest.raises(BadRecord) as caught:
        list(reader.feed(PAIRS[2][1] + data))
    assert caught.value.offset == 4


@given(st.binary(max_size=200))
def test_random_bytes_are_messages_or_a_format_error(data):
    reader = NEWEST.reader()
    try:
        list(reader.feed(data))
    except FormatError:
        return
    left = data[reader.offset :]
    assert len(left) < 2 or len(left) < 2 + int.from_bytes(left[:2], "little")


_U32 = st.integers(0, 2**32 - 1)
_U64 = st.integers(0, 2**64 - 1)
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)


@given(
    st.lists(
        st.one_of(
            st.builds(hm.Log, _U32, _U32, _TEXT, _TEXT),
            st.builds(hm.Progress, _TEXT, _TEXT, _U64, _U64),
            st.builds(hm.SwitchQemuLogdirty, _U32, _U32),
            st.just(hm.Suspend()),
        )
    ),
    st.integers(1, 50),
)
def test_any_messages_come_back(messages, size):
    data = b"".join(NEWEST.pack(message) for message in messages)
    reader = NEWEST.reader()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert [message for piece in pieces for message in reader.feed(piece)] == messages


def test_text_that_is_not_utf8_is_shown_escaped():
    data = NEWEST.pack(hm.Log(1, 0, "xc", "a?z")).replace(b"?", b"\xff")
    data = bytes([data[0]]) + data[1:]
    assert list(NEWEST.reader().feed(data)) == [hm.Log(1, 0, "xc", "a\\xffz")]


def test_text_with_a_lone_surrogate_is_sent_escaped():
    (message,) = NEWEST.reader().feed(NEWEST.pack(hm.Log(1, 0, "xc", "\udcff")))
    assert message == hm.Log(1, 0, "xc", "\\udcff")


def test_what_does_not_fit_is_not_sent():
    with pytest.raises(TooBig):
        NEWEST.pack(hm.Log(1, 0, "xc", "x" * 0x10000))
    with pytest.raises(BadRecord, match="NUL"):
        NEWEST.pack(hm.Log(1, 0, "xc", "a\0b"))
    with pytest.raises(BadRecord):
        NEWEST.pack(hm.Progress("xc", "Frames", -1, 0))


def test_message_numbers_by_version():
    numbers = {
        dialect.since: {cls.NAME: number for number, cls in enumerate(dialect.messages, start=1)}
        for dialect in DIALECTS
    }
    common = {"log": 1, "progress": 2, "suspend": 3, "postcopy": 4, "checkpoint": 5}
    assert numbers[4, 6] == common | {
        "switch_qemu_logdirty": 6, "restore_results": 7, "complete": 8,
    }  # fmt: skip
    between = common | {
        "wait_checkpoint": 6, "switch_qemu_logdirty": 7, "restore_results": 8, "complete": 9,
    }  # fmt: skip
    assert numbers[4, 7] == between
    assert numbers[4, 10] == between
    assert numbers[4, 14] == common | {
        "wait_checkpoint": 6, "switch_qemu_logdirty": 7, "static_data_done": 8,
        "restore_results": 9, "complete": 10,
    }  # fmt: skip


def test_callback_flags_of_a_plain_save():
    wanted = (hm.Suspend, hm.SwitchQemuLogdirty)
    assert [dialect.callbacks(*wanted) for dialect in DIALECTS] == [72, 136, 136, 136]
    assert DIALECTS[-1].callbacks(hm.StaticDataDone, hm.RestoreResults) == 768


def test_a_message_that_a_version_does_not_know():
    with pytest.raises(Unsupported, match="static_data_done"):
        DIALECTS[0].pack(hm.StaticDataDone(0))


@pytest.mark.parametrize(
    ("version", "since"),
    [((4, 6), (4, 6)), ((4, 9), (4, 7)), ((4, 13), (4, 10)), ((4, 17), (4, 14)), ((5, 0), (4, 14))],
)
def test_the_dialect_of_a_version(version, since):
    assert dialect_of(version).since == since


def test_versions_before_the_present_stream_are_refused():
    with pytest.raises(Unsupported, match=r"got Xen 4\.5"):
        dialect_of((4, 5))


# As libxl builds them, for a plain save of domain 12 to descriptor 7 and its restore.
CALLS = [
    ((4, 6), SAVE, "7 12 0 0 4 1 72", {"flags": 4, "hvm": 1, "cbflags": 72}),
    ((4, 7), SAVE, "7 -1 12 0 0 4 1 136 0", {"flags": 4, "hvm": 1, "cbflags": 136}),
    ((4, 10), SAVE, "7 -1 12 4 1 136 0", {"flags": 4, "hvm": 1, "cbflags": 136}),
    ((4, 14), SAVE, "7 -1 12 0 136 0", {"cbflags": 136}),
    (
        (4, 6), RESTORE, "7 12 1 0 2 0 1 1 0 128 0",
        {"store_evtchn": 1, "console_evtchn": 2, "hvm": 1, "pae": 1, "cbflags": 128},
    ),
    (
        (4, 7), RESTORE, "7 -1 12 1 0 2 0 1 1 0 256 0",
        {"store_evtchn": 1, "console_evtchn": 2, "hvm": 1, "pae": 1, "cbflags": 256},
    ),
    (
        (4, 10), RESTORE, "7 -1 12 1 0 2 0 1 1 256 0",
        {"store_evtchn": 1, "console_evtchn": 2, "hvm": 1, "pae": 1, "cbflags": 256},
    ),
    (
        (4, 14), RESTORE, "7 -1 12 1 0 2 0 768 0",
        {"store_evtchn": 1, "console_evtchn": 2, "cbflags": 768},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("version", "mode", "words", "values"), CALLS)
def test_an_argument_list_both_ways(version, mode, words, values):
    dialect = dialect_of(version)
    values = values | {"io_fd": 7, "domid": 12}
    arguments = [mode, *words.split()]
    assert dialect.arguments(mode, values) == arguments
    call = parse_arguments(arguments, version)
    assert (call.dialect, call.mode) == (dialect, mode)
    assert {name: value for name, value in call.values.items() if value > 0} == values
    assert not call.checkpointed


@pytest.mark.parametrize(("version", "mode", "words"), [call[:3] for call in CALLS])
def test_arguments_alone_tell_the_version_of_all_but_the_oldest(version, mode, words):
    if version == (4, 6):
        with pytest.raises(BadRecord, match="one version of Xen"):
            parse_arguments([mode, *words.split()])
    else:
        assert parse_arguments([mode, *words.split()]).dialect.since == version


def test_a_back_channel_of_4_10_is_told_from_4_6_by_the_version():
    words = ["7", "8", "12", "5", "1", "184", "2"]
    call = parse_arguments([SAVE, *words], (4, 12))
    assert (call.values["recv_fd"], call.values["stream_type"]) == (8, 2)
    assert call.checkpointed
    assert parse_arguments([SAVE, *words], (4, 6)).values["domid"] == 8


@pytest.mark.parametrize(
    ("version", "words", "checkpointed"),
    [
        ((4, 6), "7 12 0 0 5 1 72", False),
        ((4, 6), "7 12 0 0 5 1 120", True),
        ((4, 17), "7 -1 12 1 136 0", False),
        ((4, 17), "7 -1 12 1 184 1", True),
    ],
)
def test_remus_is_known_by_its_callbacks(version, words, checkpointed):
    assert parse_arguments([SAVE, *words.split()], version).checkpointed is checkpointed


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "--save-domain",
        "--save-domain 7 -1 12 0 136",
        "--save-domain 7 -1 12 0 136 0 0 0",
        "--save-domain 7 -1 12 0 136 x",
        "--save-domain 7 -1 -1 0 136 0",
        "--save-domain 7 -2 12 0 136 0",
        "--save-domain 7 -1 12 0 136 000000000000000000000",
        "--save-domain 7 -1 12 0 136 ²",
        "--restore-domain 7 -1 12 0 136 0",
    ],
)
def test_arguments_that_libxl_never_gives(words):
    with pytest.raises(BadRecord):
        parse_arguments(words.split(), (4, 17))


def test_arguments_of_another_version_than_the_one_that_runs():
    with pytest.raises(BadRecord):
        parse_arguments([SAVE, "7", "8", "12", "4", "1", "136", "0"], (4, 17))


@given(st.sampled_from(DIALECTS), st.sampled_from([SAVE, RESTORE]), st.lists(_U32, min_size=12))
def test_any_arguments_come_back(dialect, mode, numbers):
    values = dict(zip(dialect.fields(mode), numbers, strict=False))
    call = parse_arguments(dialect.arguments(mode, values), dialect.since)
    assert call == Call(dialect, mode, values)
