"""The making of one domain: either all of it is there in the end, or nothing.

The domain's folder is locked while it is being made, so that it is not taken for what is left of
an ended one.  The lock ends with the process that holds it.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.disk.lease import Owner
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.xenstore.store import Store
from xenqemu.lab import admission, background_program, disks, ram_folder, xenstore_layout
from xenqemu.lab import taps as network
from xenqemu.lab.command_line import BELOW, Hardware, Place, command, ram_kb
from xenqemu.lab.plain_qemu import PAUSED, Machine, PlainQemu
from xenqemu.lab.ram_file import RamFile
from xenqemu.system import lock_file
from xenqemu.system.flock import locked_within
from xenqemu.system.process import Process

LOCK = "lock"
"""The lock in a host's folder that is held while its domains are counted or removed."""


class BuilderHost(Protocol):
    """What a `DomainBuilder` needs of its host."""

    folder: Path
    run: Path
    guests: Path
    hypervisor: PlainQemu
    deadlines: Deadlines

    def owner(self, uuid: str) -> Owner:
        """Return what the leases of a guest name as their owner."""

    def store(self) -> AbstractContextManager[Store]:
        """Return a session with xenstore for a block."""

    def destroy(self, domid: int) -> None:
        """Remove all that the host has of a domain."""


class DomainBuilder:
    """Makes one domain, `prepare` first and then `start`; use in a `with`."""

    def __init__(self, host: BuilderHost) -> None:
        self._host = host
        self._config: DomainConfig | None = None
        self._lock = -1
        self._private = False
        self.domid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is not None and self.domid:
                self._remove(error)
        finally:
            if self._lock >= 0:
                os.close(self._lock)

    @staticmethod
    def busy(folder: Path) -> bool:
        """Return whether the domain of this folder is being made just now."""
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False
        try:
            return not locked_within(0, fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def prepare(self, config: DomainConfig, shared: Path | None = None) -> RamFile:
        """Claim an id, the name and the uuid; return the domain's memory, which is empty.

        With the RAM file that is `shared` by clones it has that, and of it what it changes.
        """
        self._private = shared is not None
        try:
            self._claim(config)
            (self._place.folder / PAUSED).touch()
            disks.take(config, self._host.owner(config.uuid), self._host.deadlines)
            size, folder = ram_kb(config) << 10, ram_folder.chosen(self._host.folder)
            if shared is None:
                ram_folder.create_file(self._place.ram, folder, size)
            else:
                ram_folder.link_file(self._place.ram, folder, shared)
            return memory_in(self._place.ram, config)
        except OSError as error:
            raise HostError(f"cannot create the files of {config.name}: {error}") from error

    def _claim(self, config: DomainConfig) -> None:
        with lock_file.locked(self._host.folder / LOCK, self._host.deadlines.lab_lock):
            admission.require_free(config, self._host.guests)
            domid = _next_domid(self._host.folder / "domid")
            folder = self._host.guests / str(domid)
            folder.mkdir(mode=0o700)
            self.domid = domid
            self._lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            keep(config, folder)
        self._config = config

    def start(self, device_state: bytes | None) -> None:
        """Start QEMU, load the device state if there is one, and write the domain to xenstore."""
        config = self._config
        if config is None:
            raise HostError("a save file without memory cannot be started")
        place, deadlines = self._place, self._host.deadlines
        place = replace(place, private=self._private)
        hardware, incoming = Hardware.of(config), device_state is not None
        with (
            network.connected(config, self._host.folder, self.domid) as taps,
            background_program.started(
                command(config, hardware, place, incoming=incoming, taps=taps),
                place.log,
                taps.values(),
            ) as process,
        ):
            self._note(process.pid, config)
            process.wait(lambda: _greets(place, deadlines), deadlines.qemu_start)
            try:
                ttys = _load_state(place, deadlines, device_state)
            except HostError as error:
                raise HostError(f"{error}; {process.output_end}") from error
            started = time.strftime("%s.00")
            running = xenstore_layout.Running(self.domid, process.pid, ttys, started)
            with self._host.store() as store:
                xenstore_layout.introduce(store, config, running)

    def _remove(self, error: BaseException) -> None:
        try:
            self._host.destroy(self.domid)
        except HostError as second:
            error.add_note(f"could not remove domain {self.domid}: {second}")

    @property
    def _place(self) -> Place:
        return Place(self.domid, self._host.guests / str(self.domid), self._host.run)

    def _note(self, pid: int, config: DomainConfig) -> None:
        process = Process.of(pid)
        started = process.started if process else 0
        memory = ram_kb(config) << 10
        below = min(memory, BELOW)
        layout = memory, below, config.vcpus, self._private
        Machine(self.domid, config.uuid, pid, started, *layout).store(self._place.folder)


def keep(config: DomainConfig, folder: Path) -> None:
    """Write what a domain is made of into its folder, at once and whole."""
    draft = folder / "config.json.new"
    draft.write_bytes(config.dump())
    draft.rename(folder / "config.json")


def memory_in(ram: Path, config: DomainConfig) -> RamFile:
    """Return the memory of a guest of this config in a RAM file."""
    size = ram_kb(config) << 10
    return RamFile(ram, size, min(size, BELOW))


def _greets(place: Place, deadlines: Deadlines) -> bool:
    with suppress(HostError), DeviceModel(place.socket("libxenstat"), deadlines):
        return True
    return False


def _load_state(place: Place, deadlines: Deadlines, device_state: bytes | None) -> tuple[str, ...]:
    """Load the state if there is one; return the ttys of the serial ports."""
    with DeviceModel(place.socket("libxl"), deadlines) as device_model:
        if device_state is not None:
            device_model.load_state_bytes(device_state)
        answer = device_model.execute("query-chardev")
    chardevs = answer if isinstance(answer, list) else []
    ttys = {found["label"]: found["filename"] for found in chardevs}
    return tuple(
        name.removeprefix("pty:")
        for label, name in sorted(ttys.items())
        if label.startswith("serial") and name.startswith("pty:")
    )


def _next_domid(file: Path) -> int:
    """Return the next id, having written it to `file`, which is whole at any time."""
    last = b"0\n"
    with suppress(FileNotFoundError):
        last = file.read_bytes()
    if not re.fullmatch(rb"\d{1,9}\n", last):
        raise HostError(f"{file} is damaged: {last[:20]!r} is not a domain id")
    domid = int(last) + 1
    draft = file.with_suffix(".new")
    draft.write_text(f"{domid}\n")
    draft.rename(file)
    return domid
