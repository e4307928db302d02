"""Plain QEMU in the place of Xen: one process is machine, hypervisor and device model at once.

Each domain has a folder ``<guests>/<domid>`` with the file of its RAM and ``machine.json``,
which names the process.  A process is taken for the domain's only if it also started when that
file says, since process ids are used again.  The file ``held`` beside it is the domain's pause: it
outlives each `resume`, as Xen's pause count does.

Two QMP sockets are named as libxl names its own.  ``qmp-libxl-N`` is the device model's;
``qmp-libxenstat-N`` is used here, so that asking for the run state never waits behind a save.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from xenqemu.errors import DeviceModelError, HypervisorError, ReplyLost
from xenqemu.formats.typed_json import typed
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.protocol import DomainInfo, RunState
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.lab.ram_file import RamFile
from xenqemu.system.process import Process, commands

_ENDING = 2.0
"""Seconds that a process is waited for which has hung up: its sockets go before it does."""

_STATES = {
    "running": RunState.RUNNING,
    "shutdown": RunState.SHUTDOWN,
    "guest-panicked": RunState.CRASHED,
    "internal-error": RunState.CRASHED,
    "io-error": RunState.CRASHED,
}
"""Run states of QEMU that are not simply "stopped"."""


@dataclass(frozen=True)
class Machine:
    """What ``machine.json`` holds: the process, and how its RAM is laid out (bytes)."""

    domid: int
    uuid: str
    pid: int
    started: int
    memory: int
    below: int
    vcpus: int

    def store(self, folder: Path) -> None:
        """Write the file at once and whole."""
        draft = folder / "machine.json.new"
        draft.write_text(json.dumps(asdict(self)))
        draft.rename(folder / "machine.json")

    @classmethod
    def load(cls, folder: Path) -> Machine | None:
        """Read the file; None if there is none."""
        try:
            found: Machine = typed(cls, json.loads((folder / "machine.json").read_text()))
            return found
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise HypervisorError(f"{folder / 'machine.json'} is damaged: {error}") from error

    @property
    def process(self) -> Process:
        """The process that is the machine."""
        return Process(self.pid, self.started)


def escape(value: object) -> str:
    """Return a value for one of QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


class PlainDeviceModel(DeviceModel):
    """The device-model half of a process whose run state is the guest's own."""

    def cont(self) -> None:
        """Do nothing: to start vcpus is the hypervisor's, who knows whether they are held."""


class PlainQemu:
    """The hypervisor half: `guests` holds a folder a domain, `run` the sockets."""

    def __init__(self, guests: Path, run: Path, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
        self._guests = guests
        self._run = run
        self._deadlines = deadlines

    def folder(self, domid: int) -> Path:
        """Return where the files of a domain are."""
        return self._guests / str(domid)

    def device_model(self, domid: int) -> DeviceModel:
        """Return the device model of a domain, not yet connected."""
        return PlainDeviceModel(self._run / f"qmp-libxl-{domid}", self._deadlines)

    def domids(self) -> list[int]:
        """Return the ids in use, those of ended processes too."""
        with contextlib.suppress(FileNotFoundError):
            names = [entry.name for entry in self._guests.iterdir()]
            return sorted(int(name) for name in names if name.isdecimal())
        return []

    def info(self, domid: int) -> DomainInfo | None:
        """Return what is known of the domain, None if its process has ended."""
        machine = Machine.load(self.folder(domid))
        if machine is None or not machine.process.alive:
            return None
        try:
            with self._monitor(domid) as monitor:
                status = monitor.status()
        except (DeviceModelError, ReplyLost):
            if machine.process.ends_within(_ENDING):
                return None
            raise
        stopped = RunState.PAUSED if self._held(domid).exists() else RunState.SUSPENDED
        state = _STATES.get(status, stopped)
        worked = machine.process.cpu_seconds
        return DomainInfo(domid, machine.uuid, state, machine.memory, machine.vcpus, worked)

    def suspend(self, domid: int) -> None:
        """Stop the machine; a guest that knows no Xen need not be asked."""
        with self._monitor(domid) as monitor:
            monitor.stop()

    def withdraw_suspend(self, domid: int) -> None:
        """Do nothing: a machine that is told to stop does it at once, or never."""

    def resume(self, domid: int) -> None:
        """Let the machine go on, unless it is held."""
        if not self._held(domid).exists():
            with self._monitor(domid) as monitor:
                monitor.cont()

    def pause(self, domid: int) -> None:
        """Hold the machine until `unpause`."""
        self._held(domid).touch()
        self.suspend(domid)

    def unpause(self, domid: int) -> None:
        """Release the hold and let the machine go on."""
        self._held(domid).unlink(missing_ok=True)
        self.resume(domid)

    def end(self, domid: int) -> None:
        """End the process (SIGTERM lets QEMU close its disk images); its files stay."""
        for process in self._processes(domid):
            process.end()

    def destroy(self, domid: int) -> None:
        """End the process and remove its files."""
        self.end(domid)
        for name in ("qmp-libxl", "qmp-libxenstat"):
            (self._run / f"{name}-{domid}").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder(domid))

    def memory(self, domid: int) -> RamFile:
        """Return the memory of a domain."""
        machine = Machine.load(self.folder(domid))
        if machine is None:
            raise HypervisorError(f"there is no domain {domid}")
        return RamFile(self.folder(domid) / "ram", machine.memory, machine.below)

    def stop_dirty_log(self, domid: int) -> None:
        """Do nothing: here nobody notes changes, they are seen in the memory itself."""

    def _processes(self, domid: int) -> list[Process]:
        """Return the domain's process, also if its maker was killed before it could note it."""
        machine = Machine.load(self.folder(domid))
        if machine is not None:
            return [machine.process]
        memory = f",mem-path={escape(self.folder(domid) / 'ram')},"
        pids = [pid for pid, words in commands() if any(memory in word for word in words)]
        return [process for pid in pids if (process := Process.of(pid)) is not None]

    def _held(self, domid: int) -> Path:
        return self.folder(domid) / "held"

    def _monitor(self, domid: int) -> DeviceModel:
        return DeviceModel(self._run / f"qmp-libxenstat-{domid}", self._deadlines)
