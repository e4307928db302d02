"""Plain QEMU instead of Xen: one process is machine, hypervisor and device model at once.

Each domain has a folder ``<guests>/<domid>`` with the file of its RAM and ``machine.json``,
which names the process.  A process is taken for the domain's only if it also started when that
file says, since process ids are used again.  The file ``paused`` beside it is there while the
domain is paused: `resume` does not end that, as under Xen.

Two QMP sockets are named as libxl names its own.  ``qmp-libxl-N`` is the device model's;
``qmp-libxenstat-N`` is used here, so that asking for the run state never waits behind a save.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from xenqemu.errors import DeviceModelError, HostTimeout, HypervisorError, ReplyLost
from xenqemu.formats.typed_json import typed
from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.qemu import background_snapshot
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.lab import ram_folder
from xenqemu.lab.moment_memory import MomentMemory
from xenqemu.lab.private_ram import PrivateRam
from xenqemu.lab.ram_file import RamFile
from xenqemu.lab.ram_folder import RAM
from xenqemu.system.outlived_pipe import read_rest
from xenqemu.system.process import Process, commands

PAUSED = "paused"
"""The file in a domain's folder that says that the domain is paused."""

_ENDING = 2.0
"""Seconds to wait for the end of a process that hung up: its sockets are closed first."""

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
    """The contents of ``machine.json``: the process, and how its RAM is laid out (bytes).

    RAM is `private` if QEMU alone has what the guest wrote, and the file what it began with.
    """

    domid: int
    uuid: str
    pid: int
    started: int
    memory: int
    below: int
    vcpus: int
    private: bool = False

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
        """Do nothing: the hypervisor half starts vcpus, unless the domain is paused."""


class PlainQemu:
    """The hypervisor half: `guests` has a folder for each domain, `run` the sockets."""

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
        except HostTimeout as error:
            if machine.process.stopped:
                why = f"its QEMU, process {machine.pid}, is stopped by a signal"
                raise HypervisorError(f"{why} (kill -CONT {machine.pid})") from error
            raise
        stopped = RunState.PAUSED if self._paused(domid).exists() else RunState.SUSPENDED
        state = _STATES.get(status, stopped)
        worked = machine.process.cpu_seconds
        return DomainInfo(domid, machine.uuid, state, machine.memory, machine.vcpus, worked)

    def require_suspendable(self, domid: int) -> None:
        """Do nothing: a guest is suspended without being asked, paused or not."""

    def suspend(self, domid: int) -> None:
        """Stop the machine; the guest is not asked: it does not know of Xen."""
        with self._monitor(domid) as monitor:
            monitor.stop()

    def suspend_requested(self, domid: int) -> bool:  # noqa: ARG002 - Hypervisor's
        """Return False: `suspend` makes no request."""
        return False

    def withdraw_suspend(self, domid: int) -> None:
        """Do nothing: `suspend` returns once the machine is stopped."""

    def resume(self, domid: int) -> None:
        """Run the machine, unless the domain is paused."""
        if not self._paused(domid).exists():
            with self._monitor(domid) as monitor:
                monitor.cont()

    def pause(self, domid: int) -> None:
        """Pause the domain until `unpause`."""
        self._paused(domid).touch()
        self.suspend(domid)

    def unpause(self, domid: int) -> None:
        """Unpause the domain and run the machine."""
        self._paused(domid).unlink(missing_ok=True)
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
        ram_folder.remove_file(self._ram(domid))
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder(domid))

    def memory(self, domid: int) -> RamFile | PrivateRam:
        """Return the memory of a domain."""
        machine = Machine.load(self.folder(domid))
        if machine is None:
            raise HypervisorError(f"there is no domain {domid}")
        place = self._ram(domid), machine.memory, machine.below
        return PrivateRam(*place, machine.pid) if machine.private else RamFile(*place)

    def stop_dirty_log(self, domid: int) -> None:
        """Do nothing: there is no log, changes are found in the memory itself."""

    def moment_memory(self, domid: int) -> MomentMemory:
        """Return the memory of a domain as of one moment, of which QEMU makes a snapshot."""
        return MomentMemory(self.device_model(domid), self.memory(domid), self._deadlines)

    def read_rest(self, domid: int, uuid: str, pipe: int) -> None:
        """Read what QEMU still has to send of a snapshot.

        Its vcpus wait at a write to memory; one that holds QEMU's lock then keeps the monitor from
        answering too.
        """
        machine = Machine.load(self.folder(domid))
        if machine is not None and machine.uuid == uuid and machine.process.alive:
            read_rest(machine.pid, pipe, self._deadlines.qemu_save)

    def stop_moment(self, domid: int, bandwidth: int) -> None:
        """Wait for the end of a snapshot, and have QEMU as it was before."""
        with self.device_model(domid) as device_model:
            background_snapshot.await_end(device_model, self._deadlines.qemu_save)
            background_snapshot.disable(device_model, bandwidth)

    def _processes(self, domid: int) -> list[Process]:
        """Return the domain's process, even if its maker was killed before it wrote the file."""
        machine = Machine.load(self.folder(domid))
        if machine is not None:
            return [machine.process]
        memory = f",mem-path={escape(self._ram(domid))},"
        found = [each.pid for each in commands() if any(memory in word for word in each.words)]
        return [process for pid in found if (process := Process.of(pid)) is not None]

    def _ram(self, domid: int) -> Path:
        return self.folder(domid) / RAM

    def _paused(self, domid: int) -> Path:
        return self.folder(domid) / PAUSED

    def _monitor(self, domid: int) -> DeviceModel:
        return DeviceModel(self._run / f"qmp-libxenstat-{domid}", self._deadlines)
