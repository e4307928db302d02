"""The device model's suite against real QEMU, and what only real QEMU can show."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.qemu.device_model_suite import Suite
from tests.integration.lab.qemu import MEMORY, Qemu, plain_qemu
from xenqemu.errors import DeviceModelError
from xenqemu.host.qemu.device_model import DeviceModel

pytestmark = pytest.mark.lab


def installed() -> tuple[int, int, int]:
    shown = subprocess.run(
        ["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=True
    )
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", shown.stdout)
    assert found
    return int(found[1]), int(found[2]), int(found[3])


class QemuDoor:
    """Plain QEMU of the machine that the tests run on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.version = installed()

    @contextmanager
    def open(
        self,
        name: str = "guest",
        *,
        disk: bool = False,
        nvme: bool = False,
        paused: bool = True,
        incoming: bool = False,
    ) -> Iterator[Qemu]:
        extra = []
        if disk or nvme:
            image = self._folder / f"{name}.img"
            image.write_bytes(bytes(1 << 20))
            drive = f"file={image},format=raw,id=disk,if={'none' if nvme else 'virtio'}"
            extra += ["-drive", drive]
        if nvme:
            extra += ["-device", "nvme,drive=disk,serial=x"]
        # RAM in a file by the same name is put back, as a restore needs it.
        ram = self._folder / f"{name}.ram"
        options = {"ram": ram, "paused": paused, "incoming": incoming}
        with plain_qemu(self._folder, name, extra=extra, **options) as qemu:
            yield qemu


class TestQemu(Suite):
    @pytest.fixture
    def door(self, tmp_path: Path) -> QemuDoor:
        return QemuDoor(tmp_path)


def test_a_guest_goes_on_in_another_qemu(tmp_path: Path) -> None:
    """The firmware's own writes to RAM stay, and the clock of its timer continues."""
    ram = tmp_path / "ram"
    with plain_qemu(tmp_path, ram=ram, paused=False) as qemu, DeviceModel(qemu.qmp) as dm:
        deadline = time.monotonic() + 30
        while not any(memory := ram.read_bytes()[0x400:0x500]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        dm.stop()
        memory = ram.read_bytes()
        registers = dm.execute("human-monitor-command", {"command-line": "info registers"})
        state = dm.save_state_bytes(live=False)
        dm.quit()
    assert ram.read_bytes() == memory
    assert len(memory) == MEMORY << 20
    with plain_qemu(tmp_path, "next", ram=ram, incoming=True) as qemu, DeviceModel(qemu.qmp) as dm:
        dm.load_state_bytes(state)
        again = dm.execute("human-monitor-command", {"command-line": "info registers"})
        assert isinstance(again, str)
        assert again == registers
        assert ram.read_bytes() == memory
        dm.cont()
        assert dm.status() == "running"


def test_the_reason_of_a_failed_load_is_in_the_log(tmp_path: Path) -> None:
    with plain_qemu(tmp_path, incoming=True) as qemu:
        with DeviceModel(qemu.qmp) as dm, pytest.raises(DeviceModelError):
            dm.load_state_bytes(b"not a state")
        assert qemu.process.wait(10) == 1
        assert b"load of migration failed" in qemu.log.read_bytes()
