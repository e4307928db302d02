"""The client against the reference device model: the common suite, then what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.qemu.device_model_suite import HEADER, Suite, write_only
from xenqemu.errors import (
    DeviceModelError,
    HostTimeout,
    OpenFileFailed,
    ReplyLost,
    TooBig,
    WriteFailed,
    XenqemuError,
)
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu import device_model
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.qemu.qmp import LINE_LIMIT
from xenqemu.lab.reference_device_model import QemuRunState, ReferenceDeviceModel, Registry, faults
from xenqemu.lab.reference_device_model.faults import Fault

SHORT = Deadlines(qemu_greeting=20, qemu_query=1, qemu_act=1, qemu_save=1, qemu_load=1)
SILENT = SHORT.but(qemu_greeting=1)
"""For a peer that never greets."""


class ReferencePeer:
    """The reference device model as the suite wants it."""

    def __init__(self, path: Path, model: ReferenceDeviceModel) -> None:
        self.qmp = path
        self.kill = model.kill


class ReferenceDoor:
    version = (7, 2, 22)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(
        self,
        name: str = "guest",
        *,
        disk: bool = False,
        nvme: bool = False,
        paused: bool = True,
        incoming: bool = False,
    ) -> Iterator[ReferencePeer]:
        path = self._folder / f"{name}.qmp"
        path.unlink(missing_ok=True)
        model = ReferenceDeviceModel(
            path,
            state=QemuRunState.INMIGRATE if incoming else QemuRunState.PRELAUNCH,
            disks=disk,
            blockers=["non-migratable device: 0000:00:02.0/nvme"] if nvme else [],
        )
        model.model.machine.autostart = not paused
        with model:
            yield ReferencePeer(path, model)


class TestReference(Suite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> ReferenceDoor:
        return ReferenceDoor(tmp_path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp"


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


Act = Callable[[DeviceModel], object]
ACTS: dict[str, Act] = {
    "query-version": DeviceModel.version,
    "query-status": DeviceModel.status,
    "query-migrate": DeviceModel.blockers,
    "query-commands": lambda dm: dm.save_state_bytes(live=False),
    "add-fd": lambda dm: dm.save_state_bytes(live=False),
    "remove-fd": lambda dm: dm.save_state_bytes(live=False),
    "xen-save-devices-state": lambda dm: dm.save_state_bytes(live=False),
    "stop": DeviceModel.stop,
    "cont": DeviceModel.cont,
    "getfd": lambda dm: dm.load_state_bytes(b""),
    "migrate-incoming": lambda dm: dm.load_state_bytes(b""),
    "xen-set-global-dirty-log": lambda dm: dm.execute("xen-set-global-dirty-log", {"enable": True}),
}
"""How the client comes to send each command."""

ONCE_ONLY = {"xen-save-devices-state", "migrate-incoming", "xen-set-global-dirty-log"}
SILENCE = {name: ReplyLost if name in ONCE_ONLY else HostTimeout for name in ACTS}


@pytest.mark.parametrize("command", ACTS)
@pytest.mark.parametrize("fault", [faults.hang, faults.hang_after, faults.late(5)])
def test_silence_ends_in_time(path: Path, command: str, fault: Fault) -> None:
    with ReferenceDeviceModel(path, faults={command: fault}), DeviceModel(path, SHORT) as dm:
        start = time.monotonic()
        with pytest.raises(SILENCE[command], match=f"{command}: no answer within 1 s"):
            ACTS[command](dm)
        assert time.monotonic() - start < 4
        with pytest.raises(DeviceModelError, match="earlier failure"):
            dm.status()


@pytest.mark.parametrize("command", ACTS)
@pytest.mark.parametrize("fault", [faults.reply_lost, faults.die, faults.last_words(b'{"re')])
def test_a_hang_up_is_a_lost_reply(path: Path, command: str, fault: Fault) -> None:
    with ReferenceDeviceModel(path, faults={command: fault}) as peer:
        with DeviceModel(path) as dm:
            with pytest.raises(ReplyLost, match=f"{command}: the connection was lost"):
                ACTS[command](dm)
        # It was asked once only, whatever the command.
        assert [name for name, _ in peer.seen].count(command) == 1


def test_within_a_running_event_loop(path: Path) -> None:
    """Where asyncio allows none within ours, the client's own loop is in another thread."""

    async def ask() -> list[str]:
        with DeviceModel(path, SHORT) as dm:
            said = [dm.status()]
            with pytest.raises(ReplyLost, match="stop: the connection was lost"):
                dm.stop()
        with DeviceModel(path, SHORT) as dm:
            return [*said, dm.status()]

    with ReferenceDeviceModel(path, faults={"stop": faults.reply_lost}):
        assert asyncio.run(ask()) == ["running", "paused"]
    with ReferenceDeviceModel(path, faults={"query-status": faults.hang}):
        with pytest.raises(HostTimeout, match="query-status: no answer within 1 s"):
            asyncio.run(ask())


def test_after_a_lost_reply_the_peer_can_be_looked_at(path: Path) -> None:
    with ReferenceDeviceModel(path, faults={"stop": faults.reply_lost}):
        with DeviceModel(path) as dm, pytest.raises(ReplyLost):
            dm.stop()
        with DeviceModel(path) as dm:
            assert dm.status() == "paused"


def test_an_answer_in_time_is_taken_however_late(path: Path) -> None:
    with ReferenceDeviceModel(path, faults={"query-status": faults.late(0.3)}):
        with DeviceModel(path) as dm:
            assert dm.status() == "running"


def test_an_answer_that_comes_too_late_is_never_taken_for_the_next(path: Path) -> None:
    with ReferenceDeviceModel(path, faults={"stop": faults.late(2)}) as peer:
        with DeviceModel(path, SHORT) as dm, pytest.raises(HostTimeout):
            dm.stop()
        with DeviceModel(path) as dm:
            assert dm.status() == "paused"
        assert peer.died is False


def test_a_refused_save_forgets_its_descriptor(path: Path) -> None:
    refusal = faults.refuse("GenericError", "An IO error has occurred")
    with ReferenceDeviceModel(path, faults={"xen-save-devices-state": refusal}):
        with DeviceModel(path) as dm:
            with pytest.raises(WriteFailed) as caught:
                dm.save_state_bytes(live=False)
            assert not hasattr(caught.value, "__notes__")
            assert dm.execute("query-fdsets") == []


@pytest.mark.parametrize("second", [faults.hang, faults.die, faults.refuse("GenericError", "no")])
def test_the_first_error_is_the_one_shown(path: Path, second: Fault) -> None:
    first = faults.refuse("GenericError", "An IO error has occurred")
    both = {"xen-save-devices-state": first, "remove-fd": second}
    with ReferenceDeviceModel(path, faults=both), DeviceModel(path, SHORT) as dm:
        with pytest.raises(WriteFailed) as caught:
            dm.save_state_bytes(live=False)
        (note,) = caught.value.__notes__
        assert "remove-fd" in note


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("OpenFileFailed", "Could not open '/x'", OpenFileFailed),
        ("IOError", "An IO error has occurred", WriteFailed),
        ("GenericError", "Could not open '/x': No such file or directory", OpenFileFailed),
        ("GenericError", "Unable to open /x: Permission denied", OpenFileFailed),
        ("GenericError", "Could not create '/x': Permission denied", OpenFileFailed),
        ("GenericError", "Could not parse fdset /dev/fdset/x", OpenFileFailed),
        ("GenericError", "Failed to find fdset /dev/fdset/1", OpenFileFailed),
        (
            "GenericError",
            "Failed to find file descriptor with matching flags=0x241",
            OpenFileFailed,
        ),
        ("GenericError", "Failed to dup() given file descriptor fd=9", OpenFileFailed),
        ("GenericError", "An IO error has occurred", WriteFailed),
        ("GenericError", "saving Xen device state failed", WriteFailed),
        ("GenericError", "bdrv_inactivate_all() failed (-1)", DeviceModelError),
        ("DeviceNotActive", "No device", DeviceModelError),
    ],
)
def test_the_two_failures_of_a_save_are_distinguished(
    path: Path, kind: str, words: str, expected: type[DeviceModelError]
) -> None:
    refusal = {"xen-save-devices-state": faults.refuse(kind, words)}
    with ReferenceDeviceModel(path, faults=refusal), DeviceModel(path) as dm:
        with pytest.raises(expected) as caught:
            dm.save_state(Path("/x"), live=False)
        assert type(caught.value) is expected
        assert caught.value.kind == kind
        assert str(caught.value) == f"xen-save-devices-state: {words}"


def test_other_commands_do_not_fail_to_save(path: Path) -> None:
    refusal = {"stop": faults.refuse("GenericError", "Could not open '/x'")}
    with ReferenceDeviceModel(path, faults=refusal), DeviceModel(path) as dm:
        with pytest.raises(DeviceModelError) as caught:
            dm.stop()
        assert type(caught.value) is DeviceModelError


@pytest.mark.parametrize(
    ("version", "command", "live"),
    [
        ((1, 0, 6), "save_devices", None),
        ((1, 0, 7), "save-devices-state", None),
        ((1, 1, 0), "xen-save-devices-state", None),
        ((2, 10, 2), "xen-save-devices-state", None),
        ((2, 11, 0), "xen-save-devices-state", False),
        ((10, 0, 2), "xen-save-devices-state", False),
    ],
)
def test_each_version_is_asked_in_its_own_words(
    path: Path, tmp_path: Path, version: tuple[int, int, int], command: str, live: bool | None
) -> None:
    target = tmp_path / "save"
    expected: dict[str, object] = {"filename": str(target)}
    if live is not None:
        expected["live"] = live
    with ReferenceDeviceModel(path, version=version) as peer, DeviceModel(path) as dm:
        assert dm.version() == version
        dm.save_state(target, live=False)
        assert peer.seen[-1] == (command, expected)
        with pytest.raises(WriteFailed):
            dm.save_state(Path("/dev/full"), live=False)
        with pytest.raises(OpenFileFailed):
            dm.save_state(Path("/nonexistent/x"), live=False)
    assert target.read_bytes().startswith(HEADER)


def test_qemu_1_1_takes_no_descriptor(path: Path) -> None:
    with ReferenceDeviceModel(path, version=(1, 1, 0)), DeviceModel(path) as dm:
        with pytest.raises(DeviceModelError, match="add-fd") as caught:
            dm.save_state_bytes(live=False)
        assert caught.value.kind == "CommandNotFound"


def test_what_a_save_has_to_know_is_asked_once_before(path: Path) -> None:
    with ReferenceDeviceModel(path) as peer:
        dm = DeviceModel(path)
        with dm:
            dm.prepare_save()
        before = len(peer.seen)
        with dm:
            dm.stop()
            dm.save_state_bytes(live=False)
        assert peer.seen[before][0] == "qmp_capabilities"
        asked = [name for name, _ in peer.seen[before + 1 :]]
        assert asked == ["stop", "add-fd", "xen-save-devices-state", "remove-fd"]


def test_a_peer_that_knows_no_save_is_named(path: Path) -> None:
    with ReferenceDeviceModel(path, faults={"query-commands": faults.answer([{"name": "x"}])}):
        with DeviceModel(path) as dm:
            with pytest.raises(DeviceModelError, match="cannot save its device state") as caught:
                dm.save_state(Path("/x"), live=True)
        assert caught.value.kind == "CommandNotFound"


def test_blockers_are_unknown_before_6_0(path: Path) -> None:
    for version, known in (((5, 2, 0), []), ((6, 0, 0), ["nvme"])):
        with ReferenceDeviceModel(path, version=version, blockers=["nvme"]):
            with DeviceModel(path) as dm:
                assert dm.blockers() == known


def test_qemu_9_1_says_why_it_cannot_load(path: Path) -> None:
    incoming = {"state": QemuRunState.INMIGRATE, "version": (9, 1, 0)}
    with ReferenceDeviceModel(path, **incoming) as peer, DeviceModel(path) as dm:
        with pytest.raises(DeviceModelError, match="device state"):
            dm.load_state_bytes(b"not a state")
        uri = {"uri": "fd:xenqemu-state", "exit-on-error": False}
        assert ("migrate-incoming", uri) in peer.seen
        assert dm.status() == "inmigrate"


def test_a_load_without_an_end_is_given_up(path: Path) -> None:
    never = {"query-status": faults.answer({"status": "inmigrate"})}
    with ReferenceDeviceModel(path, state=QemuRunState.INMIGRATE, faults=never) as peer:
        state = b"".join([HEADER[:8], b"\0"])
        with (
            DeviceModel(path, SHORT) as dm,
            pytest.raises(HostTimeout, match="not loaded within 1 s"),
        ):
            dm.load_state_bytes(state)
        assert [name for name, _ in peer.seen].count("query-status") > 2


def test_a_load_that_fails_without_words(path: Path) -> None:
    failed = {"query-migrate": faults.answer({"status": "failed"})}
    with ReferenceDeviceModel(path, state=QemuRunState.INMIGRATE, faults=failed):
        with DeviceModel(path) as dm, pytest.raises(DeviceModelError, match="loading failed"):
            dm.load_state_bytes(b"".join([HEADER[:8], b"\0"]))


NONSENSE = [
    ("query-version", [None, {}, {"qemu": {"major": 7}}, {"qemu": {"major": "7"}}, []]),
    ("query-status", [None, {}, {"status": 1}, "running"]),
    ("query-migrate", [None, [], {"blocked-reasons": None}, {"blocked-reasons": "x"}]),
    ("query-commands", [None, {}, "stop"]),
    ("add-fd", [None, {}, {"fdset-id": "0"}]),
]


@pytest.mark.parametrize(
    ("command", "value"), [(name, value) for name, values in NONSENSE for value in values]
)
def test_nonsense_is_an_error(path: Path, command: str, value: object) -> None:
    with ReferenceDeviceModel(path, faults={command: faults.answer(value)}):
        with DeviceModel(path) as dm, pytest.raises(DeviceModelError, match=command) as caught:
            ACTS[command](dm)
        assert len(str(caught.value)) < 400


BROKEN = {
    "no JSON": b"{]\r\n",
    "no text": b'"\xff\xfe"\r\n',
    "no object": b"[]\r\n",
    "an error of nobody": b'{"error": {"class": "GenericError", "desc": "JSON parse error"}}\r\n',
    "an odd id": b'{"id": [], "return": {}}\r\n',
    "too deep": b"[" * 200_000 + b"\r\n",
    "too long": b" " * (2 * LINE_LIMIT) + b"\r\n",
    "a long number": b"1" * 100_000 + b"\r\n",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_reply_that_is_no_qmp_breaks_the_connection(path: Path, data: bytes) -> None:
    with ReferenceDeviceModel(path, faults={"query-status": faults.garbage(data)}):
        with DeviceModel(path) as dm, pytest.raises(ReplyLost) as caught:
            dm.status()
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("body", [{}, {"error": {}}, {"error": {"class": 1, "desc": "x"}}])
def test_a_reply_that_is_neither_value_nor_error(path: Path, body: dict[str, object]) -> None:
    def odd(turn: faults.Turn) -> None:
        turn.client.send({**turn.echo, **body})

    with ReferenceDeviceModel(path, faults={"stop": odd}):
        with DeviceModel(path) as dm, pytest.raises(ReplyLost, match="stop"):
            dm.stop()


def test_messages_of_nobody_are_passed_over(path: Path) -> None:
    def chatter(turn: faults.Turn) -> None:
        turn.client.send({"event": "WHATEVER", "data": {"x": 1}})
        turn.client.send({"event": None})
        turn.client.send({"id": "other", "return": 5})
        turn.client.send(turn.act())
        turn.client.send({**turn.echo, "return": {"status": "again"}})

    with ReferenceDeviceModel(path, faults={"query-status": chatter}), DeviceModel(path) as dm:
        assert dm.status() == "running"
        assert dm.version() == (7, 2, 22)


def test_events_without_end_do_not_pile_up_nor_prolong(path: Path) -> None:
    def flood(turn: faults.Turn) -> None:
        while True:
            turn.client.send({"event": "NOISE", "data": "x" * 10_000})

    with ReferenceDeviceModel(path, faults={"query-status": flood}), DeviceModel(path, SHORT) as dm:
        start = time.monotonic()
        with pytest.raises(HostTimeout):
            dm.status()
        assert time.monotonic() - start < 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.binary(max_size=200)
    | st.text(alphabet='{}[]":,\n\\01eidrtu ', max_size=60).map(str.encode)
)
def test_whatever_is_answered_is_a_value_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("qmp") / "s"
    for key in ("greeting", "query-status"):
        with ReferenceDeviceModel(path, faults={key: faults.last_words(data)}):
            with pytest.raises(XenqemuError), DeviceModel(path) as dm:
                dm.status()


@pytest.mark.parametrize(
    "data",
    [*BROKEN.values(), b'{"return": {}}\r\n', b'{"QMP": {}}\r\n', b'{"event": "X"}\r\n'],
    ids=[*BROKEN, "a reply", "an empty greeting", "an event"],
)
def test_a_greeting_that_is_none(path: Path, data: bytes) -> None:
    with ReferenceDeviceModel(path, faults={"greeting": faults.garbage(data)}):
        with pytest.raises(DeviceModelError, match=str(path)) as caught:
            DeviceModel(path).__enter__()
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", ["greeting", "qmp_capabilities"])
def test_a_peer_that_fails_at_once(path: Path, key: str) -> None:
    for fault, expected in ((faults.hang, HostTimeout), (faults.last_words(b""), DeviceModelError)):
        with ReferenceDeviceModel(path, faults={key: fault}):
            with pytest.raises(expected):
                DeviceModel(path, SILENT).__enter__()


def test_negotiation_that_is_refused(path: Path) -> None:
    refusal = {"qmp_capabilities": faults.refuse("GenericError", "no")}
    with ReferenceDeviceModel(path, faults=refusal):
        with pytest.raises(DeviceModelError):
            DeviceModel(path).__enter__()


def test_no_such_socket(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as nobody:
        nobody.bind(str(tmp_path / "refuses"))
    for name in ("missing", "file", "refuses", "x" * 200, "nul\0"):
        with pytest.raises(DeviceModelError):
            DeviceModel(tmp_path / name).__enter__()


def test_a_connection_is_open_inside_its_block_only(path: Path) -> None:
    with ReferenceDeviceModel(path) as peer:
        dm = DeviceModel(path)
        for _ in range(2):
            with pytest.raises(DeviceModelError, match="not open"):
                dm.stop()
            with dm:
                assert dm.status() == "running"
        assert ("stop", {}) not in peer.seen


def test_a_state_too_big_is_not_taken_into_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_model, "STATE_LIMIT", 1000)
    registry = Registry()
    registry.register("huge", lambda: bytes(2000))
    with ReferenceDeviceModel(path, registry=registry), DeviceModel(path) as dm:
        with pytest.raises(TooBig, match="of at most 1000, got 2"):
            dm.save_state_bytes(live=False)


def test_a_state_without_end_takes_no_more_memory_than_its_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses the rest to QEMU, which then fails to write."""
    monkeypatch.setattr(device_model, "STATE_LIMIT", 1 << 16)
    registry = Registry()
    registry.register("huge", lambda: bytes(1 << 24))
    with ReferenceDeviceModel(path, registry=registry), DeviceModel(path) as dm:
        with pytest.raises(TooBig, match="a size of at most 65536, got more") as caught:
            dm.save_state_bytes(live=False)
    assert isinstance(caught.value.__cause__, WriteFailed)


def test_quit_does_not_need_an_answer(path: Path) -> None:
    with ReferenceDeviceModel(path, faults={"quit": faults.reply_lost}), DeviceModel(path) as dm:
        dm.quit()
    with ReferenceDeviceModel(path, faults={"quit": faults.hang}), DeviceModel(path, SHORT) as dm:
        with pytest.raises(HostTimeout, match="quit"):
            dm.quit()


def test_what_json_cannot_say_is_the_callers_mistake(path: Path) -> None:
    with ReferenceDeviceModel(path) as peer, DeviceModel(path) as dm:
        with pytest.raises(TypeError):
            dm.execute("stop", {"x": object()})
        with pytest.raises(DeviceModelError, match="earlier failure"):
            dm.stop()
        assert "stop" not in [name for name, _ in peer.seen]


@pytest.mark.parametrize("command", ["greeting", "xen-save-devices-state", "query-status"])
def test_an_interrupt_passes_and_leaves_nothing(path: Path, command: str) -> None:
    before = (descriptors(), threading.active_count())
    with ReferenceDeviceModel(path, faults={command: faults.hang}):
        alarm = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        alarm.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), DeviceModel(path) as dm:
            ACTS.get(command, DeviceModel.status)(dm)
        assert time.monotonic() - start < 4
        alarm.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (descriptors(), threading.active_count()) == before


@pytest.mark.parametrize(
    "fault", [faults.play, faults.reply_lost, faults.hang, faults.die, faults.garbage(b"{]\n")]
)
@pytest.mark.parametrize("command", ["greeting", "xen-save-devices-state", "remove-fd"])
def test_no_descriptor_is_left_open(path: Path, command: str, fault: Fault) -> None:
    before = descriptors()
    deadlines = SILENT if (command, fault) == ("greeting", faults.hang) else SHORT
    with ReferenceDeviceModel(path, faults={command: fault}):
        try:
            with DeviceModel(path, deadlines) as dm:
                dm.save_state_bytes(live=False)
        except XenqemuError:
            assert fault is not faults.play
        else:
            assert fault is faults.play
    assert descriptors() == before


def test_a_peer_that_does_not_read_cannot_hold_us(path: Path) -> None:
    """More is sent than the socket takes: hanging up must not wait for it."""

    def deaf() -> None:
        peer = listener.accept()[0]
        peer.sendall(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
        peer.recv(1000)
        peer.sendall(b'{"return": {}}\r\n')
        done.wait(10)
        peer.close()

    done = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=deaf)
        thread.start()
        with DeviceModel(path, SHORT) as dm:
            start = time.monotonic()
            with pytest.raises(HostTimeout):
                dm.execute("query-status", {"x": "y" * (4 << 20)})
            assert time.monotonic() - start < 4
        done.set()
        thread.join()


def test_works_in_a_thread_of_a_program_that_is_asyncio(path: Path, tmp_path: Path) -> None:
    fd = write_only(tmp_path / "state")

    def save() -> str:
        with DeviceModel(path) as dm:
            dm.save_state(fd, live=False)
            return dm.status()

    async def program() -> str:
        return await asyncio.to_thread(save)

    with ReferenceDeviceModel(path):
        assert asyncio.run(program()) == "running"
    os.close(fd)
    assert (tmp_path / "state").read_bytes().startswith(HEADER)


def test_the_library_says_nothing_by_itself(path: Path) -> None:
    """What is raised need not also stand on stderr, where no logging is set up."""
    assert any(
        isinstance(handler, logging.NullHandler)
        for handler in logging.getLogger("qemu.qmp").handlers
    )
