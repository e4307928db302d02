"""The reference device model by itself: the original command, versions, faults, the process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.doubles.qemu.device_model_suite import HEADER, Conversation
from xenqemu.lab.reference_device_model import QemuRunState, ReferenceDeviceModel, Registry, faults
from xenqemu.lab.reference_device_model.__main__ import main
from xenqemu.lab.reference_device_model.run_states import Died, ModelMachine

NEGOTIATE = '{"execute": "qmp_capabilities"}'
STATUS = '{"execute": "query-status"}'
ORIGINAL = {"version": (1, 0, 6)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "qmp"


def save(filename: str | Path, name: str = "save_devices", more: str = "") -> str:
    return f'{{"execute": "{name}", "arguments": {{"filename": "{filename}"{more}}}}}'


def test_the_example_of_the_documentation(path: Path, tmp_path: Path) -> None:
    """-> {"execute": "save_devices", "arguments": {"filename": "/tmp/save"}}, <- {"return": {}}"""
    with ReferenceDeviceModel(path, **ORIGINAL), Conversation(path) as client:
        client.ask(NEGOTIATE)
        events, reply = client.ask(save(tmp_path / "save"))
    assert reply == {"return": {}}
    assert events == ["STOP", "RESUME"]
    assert (tmp_path / "save").read_bytes().startswith(HEADER)


def test_the_two_failures_of_the_original(path: Path) -> None:
    with ReferenceDeviceModel(path, **ORIGINAL), Conversation(path) as client:
        client.ask(NEGOTIATE)
        assert client.ask(save("/nonexistent/x"))[1] == {
            "error": {
                "class": "OpenFileFailed",
                "desc": "Could not open '/nonexistent/x'",
                "data": {"filename": "/nonexistent/x"},
            }
        }
        assert client.ask(save("/dev/full"))[1] == {
            "error": {"class": "IOError", "desc": "An IO error has occurred", "data": {}}
        }
        assert client.ask(STATUS)[1] == {"return": {"running": True, "status": "running"}}


def test_the_machine_is_stopped_while_it_is_saved(path: Path, tmp_path: Path) -> None:
    seen = []
    registry = Registry()
    model = ReferenceDeviceModel(path, registry=registry, **ORIGINAL)
    registry.register("spy", lambda: bytes(len(seen.append(model.model.machine.state) or [])))
    with model, Conversation(path) as client:
        client.ask(NEGOTIATE)
        client.ask(save(tmp_path / "save"))
        assert seen == [QemuRunState.SAVE_VM]
        client.ask('{"execute": "stop"}')
        assert client.ask(save(tmp_path / "save")) == ([], {"return": {}})
        assert seen == [QemuRunState.SAVE_VM, QemuRunState.PAUSED]


@pytest.mark.parametrize(
    ("version", "names"),
    [
        ((1, 0, 6), {"save_devices"}),
        ((1, 0, 7), {"save-devices-state"}),
        ((1, 1, 0), {"xen-save-devices-state"}),
        ((1, 2, 0), {"xen-save-devices-state", "add-fd", "remove-fd", "query-fdsets"}),
        (
            (2, 4, 0),
            {"xen-save-devices-state", "add-fd", "remove-fd", "query-fdsets", "migrate-incoming"}
            | {"xen-set-global-dirty-log"},
        ),
    ],
)
def test_what_each_version_knows(
    path: Path, version: tuple[int, int, int], names: set[str]
) -> None:
    always = {"query-version", "query-commands", "query-status", "query-migrate"}
    always |= {"stop", "cont", "quit", "getfd"}
    with ReferenceDeviceModel(path, version=version), Conversation(path) as client:
        client.ask(NEGOTIATE)
        _, reply = client.ask('{"execute": "query-commands"}')
        assert {entry["name"] for entry in reply["return"]} == always | names


def test_live_is_unknown_before_2_11_and_gives_nothing_away(path: Path, tmp_path: Path) -> None:
    name = "xen-save-devices-state"
    stopped = {"state": QemuRunState.PAUSED, "disks": True, "version": (2, 10, 0)}
    with ReferenceDeviceModel(path, **stopped), Conversation(path) as client:
        client.ask(NEGOTIATE)
        _, reply = client.ask(save(tmp_path / "save", name, ', "live": true'))
        assert reply["error"]["desc"] == "Parameter 'live' is unexpected"
        for _ in range(2):
            assert client.ask(save(tmp_path / "save", name))[1] == {"return": {}}


def test_live_is_the_default_since_2_11(path: Path, tmp_path: Path) -> None:
    name = "xen-save-devices-state"
    with ReferenceDeviceModel(path, state=QemuRunState.PAUSED, disks=True) as model:
        with Conversation(path) as client:
            client.ask(NEGOTIATE)
            assert client.ask(save(tmp_path / "save", name))[1] == {"return": {}}
            with pytest.raises(ValueError, match="Expecting value"):
                client.ask(save(tmp_path / "save", name))
    assert model.died
    assert path.is_socket()


@pytest.mark.parametrize(
    ("filename", "fd_flags", "words"),
    [
        ("/nonexistent/x", None, "Could not create '/nonexistent/x': No such file or directory"),
        ("/dev/full", None, "saving Xen device state failed"),
        ("/dev/fdset/9", None, "Failed to find fdset /dev/fdset/9"),
        (
            "/dev/fdset/0",
            os.O_RDWR,
            "Failed to find file descriptor with matching flags=0x241",
        ),
        ("/dev/fdset/x", None, "Failed to dup() given file descriptor of /dev/fdset/x"),
    ],
)
def test_the_words_of_9_1(
    path: Path, tmp_path: Path, filename: str, fd_flags: int | None, words: str
) -> None:
    with ReferenceDeviceModel(path, version=(9, 1, 0)), Conversation(path) as client:
        client.ask(NEGOTIATE)
        if fd_flags is not None:
            fd = os.open(tmp_path / "file", fd_flags | os.O_CREAT)
            client.ask('{"execute": "add-fd"}', fd)
            os.close(fd)
        _, reply = client.ask(save(filename, "xen-save-devices-state"))
        assert reply == {"error": {"class": "GenericError", "desc": words}}


@pytest.mark.parametrize("uri", ["fd:other", "tcp:host"])
def test_only_a_known_descriptor_comes_in(path: Path, uri: str) -> None:
    request = f'{{"execute": "migrate-incoming", "arguments": {{"uri": "{uri}"}}}}'
    with ReferenceDeviceModel(path, state=QemuRunState.INMIGRATE), Conversation(path) as client:
        client.ask(NEGOTIATE)
        words = f"File descriptor named '{uri.removeprefix('fd:')}' has not been found"
        assert client.ask(request)[1]["error"]["desc"] == words
        assert client.ask(STATUS)[1]["return"]["status"] == "inmigrate"


def test_a_descriptor_kept_by_name_is_closed_in_the_end(path: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    with ReferenceDeviceModel(path), Conversation(path) as client:
        client.ask(NEGOTIATE)
        client.ask('{"execute": "getfd", "arguments": {"fdname": "a"}}', 0)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_stop_and_cont_decide_what_follows_a_load() -> None:
    events: list[str] = []
    machine = ModelMachine(QemuRunState.INMIGRATE, disks=False, emit=events.append)
    machine.cont()
    machine.stop()
    assert (machine.state, events) == (QemuRunState.INMIGRATE, [])
    machine.loaded()
    assert (machine.state, events) == (QemuRunState.PAUSED, [])
    machine = ModelMachine(QemuRunState.INMIGRATE, disks=False, emit=events.append)
    machine.cont()
    machine.loaded()
    assert (machine.state, events) == (QemuRunState.RUNNING, ["RESUME"])


def test_images_given_away_come_back_by_cont_only() -> None:
    machine = ModelMachine(QemuRunState.PAUSED, disks=True, emit=lambda _name: None)
    machine.inactivate()
    machine.cont()
    machine.stop()
    machine.inactivate()
    with pytest.raises(Died):
        machine.inactivate()


def test_a_client_that_leaves_in_the_middle_does_not_stop_what_it_began(
    path: Path, tmp_path: Path
) -> None:
    lost = {"save_devices": faults.reply_lost}
    with ReferenceDeviceModel(path, faults=lost, **ORIGINAL):
        with Conversation(path) as client:
            client.ask(NEGOTIATE)
            with pytest.raises(ValueError, match="Expecting value"):
                for _ in range(2):
                    client.ask(save(tmp_path / "save"))
        with Conversation(path) as client:
            client.ask(NEGOTIATE)
            assert client.ask(STATUS)[1]["return"]["status"] == "running"
    assert (tmp_path / "save").read_bytes().endswith(b"\0")


def test_events_to_a_client_that_left_are_lost(path: Path) -> None:
    def leave(turn: faults.Turn) -> None:
        turn.client.socket.shutdown(socket.SHUT_RDWR)
        turn.act()

    with ReferenceDeviceModel(path, faults={"stop": leave}) as model:
        with Conversation(path) as client:
            client.ask(NEGOTIATE)
            with pytest.raises(ValueError, match="Expecting value"):
                client.ask('{"execute": "stop"}')
        with Conversation(path) as client:
            client.ask(NEGOTIATE)
            assert client.ask(STATUS)[1]["return"]["status"] == "paused"
        assert model.died is False


def test_a_thread_of_its_own_is_ended_by_the_block(path: Path) -> None:
    before = threading.active_count()
    model = ReferenceDeviceModel(path, faults={"stop": faults.hang})
    with model, Conversation(path) as client:
        client.ask(NEGOTIATE)
        client.tell('{"execute": "stop"}')
        time.sleep(0.05)
    assert threading.active_count() == before
    assert not path.exists()
    model.stop()


def started(path: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "xenqemu.lab.reference_device_model", str(path), *options]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


def connected(path: Path) -> Conversation:
    deadline = time.monotonic() + 20
    while True:
        try:
            return Conversation(path)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_as_a_process_it_ends_by_quit_or_signal(path: Path) -> None:
    process = started(path, "--version", "2.11.0", "--state", "inmigrate")
    with connected(path) as client:
        client.ask(NEGOTIATE)
        assert client.greeting["QMP"]["version"]["qemu"]["minor"] == 11
        assert client.ask(STATUS)[1]["return"]["status"] == "inmigrate"
        assert client.ask('{"execute": "quit"}') == (["SHUTDOWN"], {"return": {}})
    assert process.wait(10) == 0
    assert not path.exists()
    process = started(path)
    with connected(path):
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_as_a_process_it_crashes_as_qemu_does(path: Path, tmp_path: Path) -> None:
    process = started(path, "--disks", "--state", "paused")
    with connected(path) as client:
        client.ask(NEGOTIATE)
        client.ask(save(tmp_path / "save", "xen-save-devices-state"))
        with pytest.raises(ValueError, match="Expecting value"):
            client.ask(save(tmp_path / "save", "xen-save-devices-state"))
    assert process.wait(10) == 134


@pytest.mark.parametrize("arguments", [[], ["x", "--version", "seven"], ["x", "--state", "odd"]])
def test_bad_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: reference-dm" in capsys.readouterr().err


def test_main_serves_until_quit(path: Path) -> None:
    codes: list[int] = []
    keep = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def ask() -> None:
        with connected(path) as client:
            client.ask(NEGOTIATE)
            client.ask('{"execute": "quit"}')

    def wait_and_ask() -> None:
        while not path.exists():
            time.sleep(0.01)
        ask()

    thread = threading.Thread(target=wait_and_ask)
    thread.start()
    codes.append(main([str(path)]))
    thread.join()
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), keep, strict=True):
        signal.signal(number, handler)
    assert codes == [0]
