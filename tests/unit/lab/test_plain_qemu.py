"""The hypervisor half of plain QEMU, against a process that is there and a peer that speaks QMP."""

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from xenqemu.errors import DeviceModelError, HypervisorError
from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.lab.plain_qemu import Machine, PlainQemu
from xenqemu.lab.reference_device_model import QemuRunState as Status
from xenqemu.lab.reference_device_model import ReferenceDeviceModel
from xenqemu.system.process import Process

UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"
MEMORY = 8 << 20


class Guest:
    """Domain 7 of a host: its folder, a process in QEMU's place, and the two sockets."""

    def __init__(self, folder) -> None:
        self.qemu = PlainQemu(folder / "guests", folder / "run")
        self.folder = folder / "guests" / "7"
        self.folder.mkdir(parents=True)
        self.run = folder / "run"
        self.run.mkdir()
        self.process = subprocess.Popen(["sleep", "600"])
        started = Process.of(self.process.pid).started
        self.machine = Machine(7, UUID, self.process.pid, started, MEMORY, MEMORY, 2)
        self.machine.store(self.folder)
        self.monitor = ReferenceDeviceModel(self.run / "qmp-libxenstat-7", state=Status.PRELAUNCH)

    @property
    def status(self) -> str:
        return self.monitor.model.machine.state.value

    @status.setter
    def status(self, value: str) -> None:
        self.monitor.model.machine.state = SimpleNamespace(value=value)


@pytest.fixture
def guest(tmp_path) -> Iterator[Guest]:
    made = Guest(tmp_path)
    try:
        with made.monitor:
            yield made
    finally:
        made.process.kill()
        made.process.wait()


def test_a_machine_that_hangs_up_while_it_ends_has_ended(guest):
    guest.monitor.__exit__(None, None, None)
    threading.Timer(0.2, guest.process.kill).start()
    assert guest.qemu.info(7) is None


def test_a_machine_that_hangs_up_and_does_not_end(guest):
    guest.monitor.__exit__(None, None, None)
    with pytest.raises(DeviceModelError, match="qmp-libxenstat-7"):
        guest.qemu.info(7)


def test_the_machine_comes_back_as_it_was_stored(tmp_path):
    machine = Machine(7, UUID, 12, 345, 5 << 30, 3 << 30, 4)
    assert Machine.load(tmp_path) is None
    machine.store(tmp_path)
    assert Machine.load(tmp_path) == machine
    assert machine.process == Process(12, 345)
    assert [entry.name for entry in tmp_path.iterdir()] == ["machine.json"]
    assert json.loads((tmp_path / "machine.json").read_text())["below"] == 3 << 30


MACHINE = """{
    "domid": 1, "uuid": "u", "pid": PID, "started": 2, "memory": 8, "below": 8, "vcpus": 1
}"""


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "{}", '{"domid": 1}', '{"domid": 1, "color": 2}', "\udcff"),
        *(MACHINE.replace("PID", value) for value in ('"1"', "true", "null", "[]", "1.5")),
        *("[" * 100_000, MACHINE.replace("PID", "9" * 5000)),
    ],
)
def test_a_damaged_machine_is_an_error(tmp_path, text):
    (tmp_path / "machine.json").write_text(text, errors="surrogateescape")
    with pytest.raises(HypervisorError, match=r"machine\.json is damaged"):
        Machine.load(tmp_path)


def test_domids_are_those_of_the_folders(tmp_path):
    qemu = PlainQemu(tmp_path / "guests", tmp_path / "run")
    assert qemu.domids() == []
    for name in ("10", "9", "lost+found", ".nfs01"):
        (tmp_path / "guests" / name).mkdir(parents=True)
    assert qemu.domids() == [9, 10]


def test_info_of_a_guest_that_is_not_paused(guest):
    suspended = DomainInfo(7, UUID, RunState.SUSPENDED, MEMORY, 2)
    assert guest.qemu.info(7) == suspended
    guest.qemu.resume(7)
    assert guest.qemu.info(7) == DomainInfo(7, UUID, RunState.RUNNING, MEMORY, 2)
    guest.qemu.suspend(7)
    assert guest.qemu.info(7) == suspended


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("running", RunState.RUNNING),
        ("paused", RunState.SUSPENDED),
        ("inmigrate", RunState.SUSPENDED),
        ("postmigrate", RunState.SUSPENDED),
        ("shutdown", RunState.SHUTDOWN),
        ("guest-panicked", RunState.CRASHED),
        ("internal-error", RunState.CRASHED),
        ("io-error", RunState.CRASHED),
    ],
)
def test_what_qemus_words_mean(guest, status, state):
    guest.status = status
    assert guest.qemu.info(7).run_state is state


def test_a_paused_guest_stays_paused_when_it_is_resumed(guest):
    guest.qemu.resume(7)
    guest.qemu.pause(7)
    assert guest.qemu.info(7).run_state is RunState.PAUSED
    guest.qemu.resume(7)
    assert guest.status == "paused"
    guest.qemu.pause(7)
    guest.qemu.unpause(7)
    assert guest.qemu.info(7).run_state is RunState.RUNNING
    guest.qemu.unpause(7)
    assert guest.status == "running"


def test_no_such_domain(guest):
    assert guest.qemu.info(8) is None
    guest.qemu.destroy(8)
    with pytest.raises(HypervisorError, match="there is no domain 8"):
        guest.qemu.memory(8)


def test_a_process_that_ended_or_got_its_id_later_is_not_the_guest(guest):
    later = Machine(7, UUID, os.getpid(), guest.machine.started + 1, MEMORY, MEMORY, 2)
    later.store(guest.folder)
    assert guest.qemu.info(7) is None
    guest.machine.store(guest.folder)
    guest.process.kill()
    guest.process.wait()
    assert guest.qemu.info(7) is None
    assert guest.qemu.domids() == [7]


def test_a_guest_that_does_not_answer_is_an_error(guest):
    guest.monitor.kill()
    guest.monitor.__exit__()
    with pytest.raises(DeviceModelError, match="qmp-libxenstat-7"):
        guest.qemu.info(7)


WRITES = """
import os, sys
reader, writer = os.pipe()
print(os.stat(reader).st_ino, flush=True)
os.write(writer, bytes(1 << 20))  # more than a pipe holds
print("all was read", flush=True)
os.close(writer)
sys.stdin.read()
"""


def test_the_rest_of_a_snapshot_is_read_though_the_monitor_does_not_answer(guest):
    """A vcpu that waits for it may hold QEMU's lock: then no command is served."""
    guest.monitor.__exit__(None, None, None)
    words = [sys.executable, "-c", WRITES]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        pipe = int(other.stdout.readline())
        started = Process.of(other.pid).started
        Machine(7, UUID, other.pid, started, MEMORY, MEMORY, 2).store(guest.folder)
        guest.qemu.read_rest(7, "another guest's", pipe)
        assert not select.select([other.stdout], [], [], 0.1)[0]
        guest.qemu.read_rest(7, UUID, pipe)
        assert other.stdout.readline() == "all was read\n"
        other.stdin.close()
    guest.qemu.read_rest(7, UUID, pipe)
    guest.qemu.read_rest(8, UUID, pipe)


def test_destroy_leaves_nothing_and_may_be_repeated(guest):
    (guest.run / "qmp-libxl-7").touch()
    (guest.folder / "ram").write_bytes(bytes(10))
    guest.qemu.destroy(7)
    assert not guest.folder.exists()
    assert list(guest.run.iterdir()) == []
    assert not guest.machine.process.alive
    guest.qemu.destroy(7)


def test_the_memory_is_laid_out_as_the_machine_says(guest):
    Machine(7, UUID, 1, 1, MEMORY, 4096, 1).store(guest.folder)
    memory = guest.qemu.memory(7)
    layout = memory.layout
    assert (layout.size, layout.below, layout.pfn(4096)) == (MEMORY, 4096, 1 << 20)


def test_to_start_vcpus_is_not_the_device_models(guest):
    device_model = ReferenceDeviceModel(guest.run / "qmp-libxl-7", state=Status.PAUSED)
    with device_model, guest.qemu.device_model(7) as connected:
        connected.cont()
        assert connected.status() == "paused"
        connected.stop()
    assert [name for name, _ in device_model.seen if name == "cont"] == []
