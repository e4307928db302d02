"""The behaviour of a device model and its client, for any device model.

The same tests run against the reference device model (`test_device_model.py`) and real QEMU
(`tests/integration/lab/test_device_model.py`): a class there inherits them and has the `door`.
"""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, Self

import pytest

from xenqemu.errors import (
    DeviceModelError,
    HostTimeout,
    OpenFileFailed,
    ReplyLost,
    UsageError,
    WriteFailed,
)
from xenqemu.formats.device_state import device_stream
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu.device_model import DeviceModel

HEADER = bytes.fromhex("5145564d 00000003 04")
SHORT = Deadlines(qemu_greeting=0.4)


class Peer(Protocol):
    """A device model that runs."""

    qmp: Path

    def kill(self) -> None:
        """End it as by SIGKILL."""


class Door(Protocol):
    """A factory of device models of one kind; `version` is its QEMU's."""

    version: tuple[int, int, int]

    def open(
        self,
        name: str = "guest",
        *,
        disk: bool = False,
        nvme: bool = False,
        paused: bool = True,
        incoming: bool = False,
    ) -> AbstractContextManager[Peer]:
        """Start one; "prelaunch" if `paused`, waiting for a state if `incoming`."""


@contextmanager
def connected(door: Door, **options: bool) -> Iterator[DeviceModel]:
    with door.open(**options) as peer, DeviceModel(peer.qmp) as dm:
        yield dm


def sets(dm: DeviceModel) -> object:
    return dm.execute("query-fdsets")


def write_only(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)


class Conversation:
    """A client without any library: requests as written, replies without their timestamps."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self.greeting = json.loads(self._lines.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._lines.close()
        self._socket.close()

    def ask(self, request: str, fd: int | None = None) -> tuple[list[str], dict[str, object]]:
        """Return the names of the events before the reply, and the reply."""
        self.tell(request, fd)
        events = []
        while "event" in (message := json.loads(self._lines.readline())):
            assert isinstance(message["timestamp"]["microseconds"], int)
            events.append(message["event"])
        return events, message

    def tell(self, request: str, fd: int | None = None) -> None:
        """Send a request, and wait for nothing."""
        socket.send_fds(self._socket, [request.encode()], [] if fd is None else [fd])


def ok(**more: object) -> dict[str, object]:
    return {"return": {}, **more}


def generic(words: str, **more: object) -> dict[str, object]:
    return {"error": {"class": "GenericError", "desc": words}, **more}


def no_command(words: str) -> dict[str, object]:
    return {"error": {"class": "CommandNotFound", "desc": words}}


SAVE = '"execute": "xen-save-devices-state"'
CONVERSATION = [
    ('{"execute": "query-version"}', [], "CommandNotFound"),
    ('{"execute": "qmp_capabilities"}', [], ok()),
    (
        '{"execute": "qmp_capabilities"}',
        [],
        no_command("Capabilities negotiation is already complete, command ignored"),
    ),
    ('{"execute": "nope"}', [], no_command("The command nope has not been found")),
    ('{"execute": "stop", "id": [1, {"a": "}\\""}]}', [], ok(id=[1, {"a": '}"'}])),
    ('{"execute": "cont", "id": "x"}', ["RESUME"], ok(id="x")),
    ('{"execute": "cont"}', [], ok()),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/nonexistent/x"}}}}',
        ["STOP", "RESUME"],
        generic("Unable to open /nonexistent/x: No such file or directory"),
    ),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/dev/full"}}}}',
        ["STOP", "RESUME"],
        generic("An IO error has occurred"),
    ),
    ('{"execute": "stop"}', ["STOP"], ok()),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/dev/full", "live": false}}}}',
        [],
        generic("An IO error has occurred"),
    ),
    (f"{{{SAVE}}}", [], generic("Parameter 'filename' is missing")),
    (
        f'{{{SAVE}, "arguments": {{"filename": 5}}}}',
        [],
        generic("Invalid parameter type for 'filename', expected: string"),
    ),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/x", "live": 1}}}}',
        [],
        generic("Invalid parameter type for 'live', expected: boolean"),
    ),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/x", "bogus": 1}}}}',
        [],
        generic("Parameter 'bogus' is unexpected"),
    ),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/dev/fdset/9"}}}}',
        [],
        generic("Unable to open /dev/fdset/9: No such file or directory"),
    ),
    (
        f'{{{SAVE}, "arguments": {{"filename": "/dev/fdset/x"}}}}',
        [],
        generic("Unable to open /dev/fdset/x: Invalid argument"),
    ),
    ('{"execute": "add-fd"}', [], generic("No file descriptor supplied via SCM_RIGHTS")),
    (
        '{"execute": "remove-fd", "arguments": {"fdset-id": 7}}',
        [],
        generic("File descriptor named 'fdset-id:7' not found"),
    ),
    (
        '{"execute": "getfd", "arguments": {"fdname": "a"}}',
        [],
        generic("No file descriptor supplied via SCM_RIGHTS"),
    ),
    (
        '{"execute": "migrate-incoming", "arguments": {"uri": "fd:a"}}',
        [],
        generic("'-incoming' was not specified on the command line"),
    ),
    (
        '{"execute": "xen-set-global-dirty-log", "arguments": {"enable": true}}',
        [],
        ok(),
    ),
    ('{"execute": "stop", "zz": 3}', [], generic("QMP input member 'zz' is unexpected")),
    ('{"execute": "stop", "arguments": 3}', [], "GenericError"),
    ("[1]", [], generic("QMP input must be a JSON object")),
    ("{}", [], generic("QMP input lacks member 'execute'")),
    ('{"execute": }', [], "GenericError"),
    ("}", [], "GenericError"),
    ("nonsense\n", [], "GenericError"),
    ('{"execute": "query-migrate"}', [], ok()),
]
"""(request, events before the reply, the reply or only its error class), in this order."""


class Suite:
    """The tests; a subclass has a fixture `door`."""

    def test_speaks_the_protocol_word_for_word(self, door: Door) -> None:
        with door.open() as peer, Conversation(peer.qmp) as client:
            version = client.greeting["QMP"]["version"]["qemu"]
            assert (version["major"], version["minor"], version["micro"]) == door.version
            for request, events, expected in CONVERSATION:
                seen, reply = client.ask(request)
                if isinstance(expected, str):
                    assert reply["error"]["class"] == expected, (request, reply)
                else:
                    assert (seen, reply) == (events, expected), request

    def test_keeps_sets_of_descriptors(self, door: Door, tmp_path: Path) -> None:
        fd = write_only(tmp_path / "state")
        with door.open() as peer, Conversation(peer.qmp) as client:
            client.ask('{"execute": "qmp_capabilities"}')
            add = '{"execute": "add-fd", "arguments": {"fdset-id": %d, "opaque": "mine"}}'
            _, reply = client.ask('{"execute": "add-fd"}', fd)
            assert reply["return"]["fdset-id"] == 0
            _, reply = client.ask(add % 7, fd)
            inner = reply["return"]["fd"]
            _, reply = client.ask('{"execute": "query-fdsets"}')
            assert {"fdset-id": 7, "fds": [{"fd": inner, "opaque": "mine"}]} in reply["return"]
            _, reply = client.ask(add % -1, fd)
            assert reply == generic("Parameter 'fdset-id' expects a non-negative value")
            remove = '{"execute": "remove-fd", "arguments": {"fdset-id": 7, "fd": %d}}'
            _, reply = client.ask(remove % (inner + 50))
            assert reply == generic(
                f"File descriptor named 'fdset-id:7, fd:{inner + 50}' not found"
            )
            # While the machine is stopped a set stays listed, however often it is removed.
            for _ in range(2):
                assert client.ask(remove % inner)[1] == ok()
            assert len(client.ask('{"execute": "query-fdsets"}')[1]["return"]) == 2
            client.ask('{"execute": "cont"}')
            assert client.ask(remove % inner)[1] == ok()
            assert len(client.ask('{"execute": "query-fdsets"}')[1]["return"]) == 1
        os.close(fd)

    def test_getfd_refuses_a_number_as_a_name(self, door: Door, tmp_path: Path) -> None:
        fd = write_only(tmp_path / "state")
        with connected(door) as dm:
            with pytest.raises(DeviceModelError, match="not starting with a digit"):
                dm.execute("getfd", {"fdname": "5a"}, fd)
            for _ in range(2):
                assert dm.execute("getfd", {"fdname": "a5"}, fd) == {}
        os.close(fd)

    def test_tells_version_status_and_blockers(self, door: Door) -> None:
        with connected(door) as dm:
            assert dm.version() == door.version
            assert dm.status() == "prelaunch"
            assert dm.blockers() == []

    def test_stop_and_cont_may_be_repeated(self, door: Door) -> None:
        with connected(door) as dm:
            dm.stop()
            assert dm.status() == "prelaunch"
            for act, status in ((dm.cont, "running"), (dm.stop, "paused")) * 2:
                act()
                act()
                assert dm.status() == status

    def test_saves_to_memory_again_and_again(self, door: Door) -> None:
        with connected(door) as dm:
            for live in (False, True, False):
                state = device_stream.read(dm.save_state_bytes(live=live))
                assert (state.footers, state.trailing) == (False, b"")
                names = [section.idstr for section in state.sections]
                assert names[0] == "timer"
                assert names.count("dma") == 2
                assert "ram" not in names
            assert dm.status() == "prelaunch"

    def test_a_save_of_a_running_machine_leaves_it_running(self, door: Door) -> None:
        with connected(door) as dm:
            dm.cont()
            assert dm.save_state_bytes(live=False).startswith(HEADER)
            assert dm.status() == "running"
            assert sets(dm) == []

    def test_saves_to_a_path(self, door: Door, tmp_path: Path) -> None:
        target = tmp_path / "dm-state"
        target.write_bytes(b"old" * 100_000)
        with connected(door) as dm:
            dm.save_state(target, live=False)
        assert target.read_bytes().startswith(HEADER)
        assert target.read_bytes().endswith(b"\0")
        assert target.stat().st_size < 200_000

    def test_a_relative_path_is_the_clients(
        self, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "ours").mkdir()
        with connected(door) as dm:
            monkeypatch.chdir(tmp_path / "ours")
            dm.save_state(Path("state"), live=False)
        assert (tmp_path / "ours" / "state").read_bytes().startswith(HEADER)

    def test_a_path_of_other_bytes_is_refused_here(self, door: Door) -> None:
        with connected(door) as dm:
            with pytest.raises(UsageError, match="UTF-8"):
                dm.save_state(Path(os.fsdecode(b"/tmp/\xff")), live=False)
            assert dm.status() == "prelaunch"

    def test_a_second_save_to_the_same_descriptor_begins_at_its_start(
        self, door: Door, tmp_path: Path
    ) -> None:
        target = tmp_path / "state"
        fd = write_only(target)
        with connected(door) as dm:
            dm.save_state(fd, live=False)
            first = target.stat().st_size
            dm.save_state(fd, live=False)
        os.close(fd)
        assert target.stat().st_size == first
        assert target.read_bytes().startswith(HEADER)

    def test_a_full_disk_is_not_a_file_that_does_not_open(self, door: Door) -> None:
        with connected(door) as dm:
            with pytest.raises(WriteFailed) as full:
                dm.save_state(Path("/dev/full"), live=False)
            with pytest.raises(OpenFileFailed, match="/nonexistent/x") as missing:
                dm.save_state(Path("/nonexistent/x"), live=False)
            with pytest.raises(OpenFileFailed):
                dm.save_state(Path("/proc"), live=False)
            assert (full.value.kind, missing.value.kind) == ("GenericError", "GenericError")
            assert dm.status() == "prelaunch"

    @pytest.mark.parametrize("kind", ["read-write", "read-only", "pipe", "device", "closed"])
    def test_an_unfit_descriptor_is_refused_before_the_peer_is_asked(
        self, door: Door, tmp_path: Path, kind: str
    ) -> None:
        (tmp_path / "state").touch()
        with connected(door) as dm, unfit(kind, tmp_path / "state") as fd:
            with pytest.raises(UsageError):
                dm.save_state(fd, live=False)
            assert sets(dm) == []

    @pytest.mark.parametrize(
        ("kind", "words"), [("read-write", "Permission denied"), ("pipe", "Invalid argument")]
    )
    def test_the_peer_would_refuse_it_too(
        self, door: Door, tmp_path: Path, kind: str, words: str
    ) -> None:
        (tmp_path / "state").touch()
        with connected(door) as dm, unfit(kind, tmp_path / "state") as fd:
            assert dm.execute("add-fd", {"fdset-id": 3}, fd)["fdset-id"] == 3
            with pytest.raises(OpenFileFailed, match=words):
                dm.save_state(Path("/dev/fdset/3"), live=False)

    def test_a_blocker_is_reported_and_saving_in_spite_of_it_kills(self, door: Door) -> None:
        with connected(door, nvme=True) as dm:
            (blocker,) = dm.blockers()
            assert "nvme" in blocker
            with pytest.raises(ReplyLost):
                dm.save_state_bytes(live=False)

    def test_disk_images_are_given_away_once(self, door: Door) -> None:
        with connected(door, disk=True) as dm:
            dm.cont()
            dm.save_state_bytes(live=True)
            for _ in range(2):
                dm.stop()
                dm.save_state_bytes(live=True)
                dm.save_state_bytes(live=False)
                dm.cont()
            dm.stop()
            dm.save_state_bytes(live=True)
            with pytest.raises(ReplyLost):
                dm.save_state_bytes(live=True)

    def test_without_disks_nothing_is_given_away(self, door: Door) -> None:
        with connected(door) as dm:
            assert dm.save_state_bytes(live=True) == dm.save_state_bytes(live=True)

    def test_one_client_at_a_time(self, door: Door) -> None:
        with door.open() as peer:
            with DeviceModel(peer.qmp) as first:
                waiting = socket.socket(socket.AF_UNIX)
                waiting.connect(str(peer.qmp))
                second = DeviceModel(peer.qmp, SHORT)
                with pytest.raises(HostTimeout, match="one client at a time"):
                    second.__enter__()
                # Those two are still in the queue, which is full: there is not even connecting.
                with pytest.raises(HostTimeout, match="one client at a time"):
                    DeviceModel(peer.qmp, SHORT).__enter__()
                assert first.status() == "prelaunch"
                waiting.close()
            with DeviceModel(peer.qmp) as third:
                assert third.status() == "prelaunch"

    def test_a_peer_that_is_killed_is_noticed(self, door: Door) -> None:
        with door.open() as peer:
            with DeviceModel(peer.qmp) as dm:
                assert dm.status() == "prelaunch"
                peer.kill()
                with pytest.raises(ReplyLost, match="query-status"):
                    dm.status()
                with pytest.raises(DeviceModelError, match="earlier failure"):
                    dm.cont()
            with pytest.raises(DeviceModelError, match=str(peer.qmp)):
                DeviceModel(peer.qmp).__enter__()

    def test_what_is_refused_leaves_the_connection_usable(self, door: Door) -> None:
        with connected(door) as dm:
            with pytest.raises(DeviceModelError, match="nope") as unknown:
                dm.execute("nope")
            assert unknown.value.kind == "CommandNotFound"
            with pytest.raises(DeviceModelError, match="'filename' is missing") as missing:
                dm.execute("xen-save-devices-state", {})
            assert missing.value.kind == "GenericError"
            assert type(missing.value) is DeviceModelError
            assert dm.status() == "prelaunch"

    def test_quit_ends_the_peer(self, door: Door) -> None:
        with door.open() as peer:
            with DeviceModel(peer.qmp) as dm:
                dm.quit()
                with pytest.raises(DeviceModelError, match="not open"):
                    dm.status()
            with pytest.raises((DeviceModelError, HostTimeout)):
                DeviceModel(peer.qmp, SHORT).__enter__()

    def test_a_state_is_loaded(self, door: Door) -> None:
        with connected(door) as dm:
            state = dm.save_state_bytes(live=True)
            dm.quit()
        with connected(door, incoming=True) as dm:
            assert dm.status() == "inmigrate"
            dm.load_state_bytes(state)
            assert dm.status() == "paused"
            assert len(dm.save_state_bytes(live=False)) == len(state)
            with pytest.raises(DeviceModelError):
                dm.load_state_bytes(state)
            dm.cont()
            assert dm.status() == "running"

    def test_a_state_is_loaded_from_the_offset_of_the_descriptor(
        self, door: Door, tmp_path: Path
    ) -> None:
        with connected(door) as dm:
            state = dm.save_state_bytes(live=True)
        (tmp_path / "state").write_bytes(b"before" + state)
        fd = os.open(tmp_path / "state", os.O_RDONLY)
        os.lseek(fd, 6, os.SEEK_SET)
        with connected(door, incoming=True) as dm:
            dm.load_state(fd)
            assert dm.status() == "paused"
        os.close(fd)

    def test_a_state_that_cannot_be_loaded_ends_the_peer(self, door: Door) -> None:
        with connected(door, incoming=True) as dm:
            with pytest.raises(DeviceModelError, match="ended while it loaded"):
                dm.load_state_bytes(HEADER + bytes(20))

    def test_only_a_peer_that_waits_for_a_state_loads_one(self, door: Door) -> None:
        with connected(door) as dm:
            with pytest.raises(DeviceModelError, match="'-incoming' was not specified"):
                dm.load_state_bytes(HEADER)
            with pytest.raises(UsageError), unfit("pipe", Path("/nonexistent")) as fd:
                dm.load_state(fd)

    def test_a_peer_that_starts_by_itself_is_not_taken_for_restored(self, door: Door) -> None:
        with connected(door) as dm:
            state = dm.save_state_bytes(live=True)
        with connected(door, incoming=True, paused=False) as dm:
            with pytest.raises(DeviceModelError, match="running after loading"):
                dm.load_state_bytes(state)

    def test_two_connections_are_driven_in_turns(self, door: Door) -> None:
        with connected(door) as first:
            with door.open("other") as peer, DeviceModel(peer.qmp) as second:
                first.cont()
                assert (first.status(), second.status()) == ("running", "prelaunch")


@contextmanager
def unfit(kind: str, path: Path) -> Iterator[int]:
    """Yield a descriptor that a save cannot use."""
    others = []
    if kind == "pipe":
        reader, fd = os.pipe()
        others.append(reader)
        assert stat.S_ISFIFO(os.fstat(fd).st_mode)
    elif kind == "device":
        fd = os.open("/dev/full", os.O_WRONLY)
    else:
        fd = os.open(path, os.O_RDONLY if kind == "read-only" else os.O_RDWR)
    if kind == "closed":
        os.close(fd)
        yield fd
        return
    yield fd
    for each in (fd, *others):
        os.close(each)
