"""Whatever a QEMU answers that its guest has taken over: one error, in time, of one short line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.doubles.qemu.hostile_qmp import for_ever, hostile_qemu, once
from xenqemu.errors import DeviceModelError, HostError, HostTimeout, ReplyLost
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.shown_text import MOST_SHOWN

SECONDS = 1.0
SHORT = Deadlines(qemu_greeting=SECONDS, qemu_query=SECONDS, qemu_act=SECONDS)

MESSAGES = {
    "deep": "[" * 900_000,
    "number of 5000 digits": '{"return": %s, "id": ID}' % ("9" * 5000),
    "no UTF-8": '{"return": "\xff\xfe", "id": ID}',
    "no number": '{"return": NaN, "id": ID}',
    "a list as id": '{"return": 1, "id": []}',
    "an object as id": '{"return": 1, "id": {}}',
    "no error object": '{"error": "x", "id": ID}',
    "error of other types": '{"error": {"class": [], "desc": {}}, "id": ID}',
    "an event that is none": '{"event": 5, "timestamp": []}',
    "an end": "",
    **{
        f"depth of {n}": '{"return": %s, "id": ID}' % ("[" * n + "]" * n)
        for n in range(800, 1000, 9)
    },
    "long error": '{"error": {"class": "X", "desc": "%s\\u001b[2J\\nxenqemu: saved"}, "id": ID}'
    % ("y" * 500_000),
    "long answer": '{"return": {"x\\n": "%s"}, "id": ID}' % ("y" * 500_000),
}

FLOODS = {
    "events": b'{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n' * 500,
    "a line without end": b"x" * 65536,
    "empty lines": b"\r\n" * 30_000,
    "blanks": b" " * 100,
}


def failure(path: Path) -> HostError:
    with pytest.raises(HostError) as caught, DeviceModel(path, SHORT) as device_model:
        device_model.status()
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < MOST_SHOWN + 200
    return caught.value


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_any_message_in_place_of_an_answer_is_one_short_error(tmp_path, message):
    with hostile_qemu(tmp_path / "qmp", once(message)):
        error = failure(tmp_path / "qmp")
    assert isinstance(error, DeviceModelError | ReplyLost | HostTimeout)


@pytest.mark.parametrize("piece", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_with_the_deadline(tmp_path, piece):
    before = time.monotonic()
    with hostile_qemu(tmp_path / "qmp", for_ever(piece)):
        failure(tmp_path / "qmp")
    assert time.monotonic() - before < 15 * SECONDS


@pytest.mark.parametrize(
    "greeting",
    [b"[" * 900_000, b'{"QMP": %s}' % (b"9" * 5000), b"\xff", b'{"QMP": "x"}', b"[]", b""],
    ids=["deep", "digits", "no UTF-8", "text", "list", "nothing"],
)
def test_any_greeting_is_one_short_error(tmp_path, greeting):
    with hostile_qemu(tmp_path / "qmp", once(""), greeting + b"\r\n"):
        failure(tmp_path / "qmp")


def test_a_long_status_is_cut(tmp_path):
    answer = once('{"return": {"status": "%s"}, "id": ID}' % ("y" * 500_000))
    with hostile_qemu(tmp_path / "qmp", answer), DeviceModel(tmp_path / "qmp", SHORT) as model:
        assert len(model.status()) < MOST_SHOWN + 50


def test_long_and_deep_blockers_are_cut(tmp_path):
    deep, long = "[" * 900 + "]" * 900, "y" * 500_000
    answer = once(f'{{"return": {{"blocked-reasons": ["{long}\\n", {deep}]}}, "id": ID}}')
    with hostile_qemu(tmp_path / "qmp", answer), DeviceModel(tmp_path / "qmp", SHORT) as model:
        found = model.blockers()
    assert all(reason.isprintable() and len(reason) < MOST_SHOWN + 50 for reason in found)
