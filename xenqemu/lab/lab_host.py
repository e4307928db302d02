"""The lab: a host in a folder, with a small xenstored and guests under plain QEMU.

::

    DIR/xenstored.socket, .pid, .state, .log
    DIR/run/qmp-libxl-N       the device models' sockets, named as libxl names them
    DIR/guests/N/             a domain's own files (module `plain_qemu`)
    DIR/operations/           journals of operations (operations.journal)
    DIR/save/, auto/          save files of all guests, and their own xl.cfg files, by default
    DIR/ram                   a link to the folder of RAM files, if one was chosen (`ram_folder`)
    DIR/domid                 the last domain id in use; ids are not used again, as under Xen
    DIR/lock                  held while an id, a name and a uuid are claimed

Two folders are two hosts.  No root is needed, but for guests on a bridge.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

from xenqemu.errors import HostError, HostTimeout, XenqemuError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.source import Source
from xenqemu.host.disk.lease import Owner
from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import DomainState, state
from xenqemu.host.ended_operation import Records, unrecorded
from xenqemu.host.findings import Finding, findings
from xenqemu.host.guest_memory import Progress
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.protocol import BuildOptions, Needs, Template
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.trust import DEFAULT_TRUST, Trust
from xenqemu.host.xenstore import names as naming
from xenqemu.host.xenstore.sessions import Sessions
from xenqemu.host.xenstore.store import Store
from xenqemu.lab import (
    admission,
    background_program,
    clones,
    disks,
    ram_folder,
    taps,
    xenstore_layout,
)
from xenqemu.lab.domain_builder import LOCK, DomainBuilder, keep
from xenqemu.lab.plain_qemu import PlainQemu
from xenqemu.lab.ram_file import IMAGE_VERSION
from xenqemu.operations.save_file import read_save_file
from xenqemu.system import lock_file
from xenqemu.system.own_program import own_program
from xenqemu.system.process import Process, boot_id, peer_credentials

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's path at most (unix(7), but for its NUL)."""

_TIME = struct.Struct("ll")
"""How long to wait for a place in a listen queue: seconds and microseconds (SO_SNDTIMEO)."""


class Lab:
    """One host; `folder` is its place, `ram` the folder that `up` chooses for RAM files, if any."""

    kind = "lab"

    def __init__(
        self,
        folder: Path,
        *,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        trust: Trust = DEFAULT_TRUST,
        ram: Path | None = None,
        records: Records = unrecorded,
    ) -> None:
        self.folder = folder.absolute()
        self.deadlines = deadlines
        self.trust = trust
        self.records = records
        self._ram = ram
        self.run = self.folder / "run"
        self.guests = self.folder / "guests"
        self.hypervisor = PlainQemu(self.guests, self.run, deadlines)
        self.journals = self.folder / "operations"
        self._socket = self.folder / "xenstored.socket"
        self._sessions = Sessions(self._new_store)
        longest = self.run / "qmp-libxenstat-99999"
        if len(os.fsencode(longest)) > LONGEST_SOCKET:
            raise HostError(f"{self.folder}: the path is too long for a socket in it")

    @property
    def identity(self) -> str:
        """What distinguishes this host from all others."""
        return f"lab:{boot_id()}:{self.folder}"

    @property
    def own_folder(self) -> Path:
        """The folder that all of this host is in."""
        return self.folder

    def store(self) -> AbstractContextManager[Store]:
        """Return a session with this host's xenstore for a block; raises `HostError` if not up."""
        return self._sessions.store()

    def device_model(self, domid: int) -> DeviceModel:
        """Return the device model of a domain, not yet connected."""
        return self.hypervisor.device_model(domid)

    def config(self, domid: int) -> DomainConfig:
        """Return what a domain was made from."""
        try:
            return DomainConfig.parse((self.hypervisor.folder(domid) / "config.json").read_bytes())
        except FileNotFoundError as error:
            raise HostError(f"there is no domain {domid} on {self.folder}") from error

    def domids(self) -> list[int]:
        """Return the ids of all guests, ended ones too."""
        self._require_up()
        return self.hypervisor.domids()

    def domids_of(self, name: str, uuid: str) -> list[int]:
        """Return the ids of the domains of that name and uuid, half-made ones too."""
        found = admission.configs(self.guests)
        return [int(domid) for domid, config in found if (config.name, config.uuid) == (name, uuid)]

    def concurrent_toolstacks(self, _domain: Domain) -> list[str]:
        """Return an empty list: each operation on a domain of the lab has a journal here."""
        return []

    def owner(self, uuid: str) -> Owner:
        """Return what the leases of a guest of this host name as their owner."""
        return Owner.here(uuid, str(self.folder))

    def up(self) -> None:
        """Start the host; if it is up, only have new guests' RAM files where they are to be."""
        for folder in (self.folder, self.run, self.guests):
            _make_private(folder)
        if self._ram:
            _make_private(self._ram)
            ram_folder.choose(self.folder, self._ram)
        if self._xenstored():
            return
        command = [*own_program("xenqemu.lab.xenstored"), self._socket]
        command += ["--pid-file", self.folder / "xenstored.pid"]
        command += ["--state", self.folder / "xenstored.state"]
        log = self.folder / "xenstored.log"
        with background_program.started(command, log) as xenstored:
            xenstored.wait(lambda: self._xenstored() is not None, self.deadlines.xenstored_start)
            with self.store() as store:
                xenstore_layout.introduce_host(store)
                self._forget_ended(store)

    def down(self) -> list[str]:
        """End all domains, then the host; return the names of the domains.

        Raises `HostError` if the folder is no lab's: what is in it is somebody else's then.
        """
        if not (self.guests.is_dir() and self.run.is_dir()):
            raise HostError(f"{self.folder} is no lab: it has no folders guests and run")
        names = []
        for domid in self.hypervisor.domids():
            names.append(self._name(domid))
            self.hypervisor.end(domid)
            try:
                self._release(domid)
            finally:
                self.hypervisor.destroy(domid)
        self.close()
        xenstored = self._xenstored()
        if xenstored:
            xenstored.end()
        for left in ("xenstored.socket", "xenstored.state", "xenstored.pid"):
            (self.folder / left).unlink(missing_ok=True)
        return names

    def domains(self) -> list[DomainState]:
        """Return the state of every domain; remove what is left of ended ones."""
        self._require_up()
        found = []
        for domid in self.hypervisor.domids():
            now = state(self, domid)
            if _ended(now):
                self._clear_away(domid)
            else:
                found.append(now)
        return found

    def needs(self, _domid: int, config: DomainConfig) -> Needs:
        """Return what a save file of a domain needs of the host that restores it."""
        return Needs(config, IMAGE_VERSION)

    def findings(self, needs: Needs, *, quick: bool = False) -> Iterator[Finding]:
        """Yield every reason why this host cannot take such a guest."""
        self.domains()  # removes what is left of ended guests
        ram = ram_folder.chosen(self.folder) or self.guests
        yield from findings(admission.checks(needs, self.guests, ram, quick=quick))

    def findings_elsewhere(self, needs: Needs, _info: str, _domains: str) -> Iterator[Finding]:
        """Yield the reason against a host that has only xl: none can run guests of the lab."""
        why = HostError(f"{needs.config.name} is a guest of the lab: its CPU state is QEMU's")
        yield Finding.refusal("xen", why)

    def create(self, config: DomainConfig) -> int:
        """Make a paused domain that has not booted and return its id, or leave nothing."""
        with DomainBuilder(self) as builder:
            builder.prepare(config)
            builder.start(None)
            return builder.domid

    def build(self, save_file: Source, progress: Progress, options: BuildOptions) -> int:
        """Make a paused domain of a checked save file and return its id, or leave nothing."""
        with DomainBuilder(self) as builder:
            given = options.config
            parts = read_save_file(save_file, lambda own: builder.prepare(given or own), progress)
            builder.start(parts.device_state)
            return builder.domid

    @contextmanager
    def template(
        self, opened: Callable[[], Source], progress: Progress, _options: BuildOptions
    ) -> Iterator[Template]:
        """Yield what builds domains whose RAM is one file, of which each has what it changes."""
        with clones.unpacked(self, opened(), progress) as template:
            yield template

    def check_name(self, _name: str) -> None:
        """Do nothing: no file here is named after a guest."""

    def rename(self, domid: int, old: str, new: str) -> None:
        """Rename a domain from `old` to `new`; nothing if it has the new name already."""
        with lock_file.locked(self.folder / LOCK, self.deadlines.lab_lock):
            config = self.config(domid).with_name(new)
            admission.require_free(config, self.guests, domid)
            with self.store() as store:
                naming.rename(store, domid, old, new)
            keep(config, self.hypervisor.folder(domid))

    def shut_down(self, domid: int) -> None:
        """Press the guest's power button, and do not wait for its shutdown."""
        with self.device_model(domid) as device_model:
            device_model.execute("system_powerdown")

    def destroy(self, domid: int) -> None:
        """End a domain and remove all that this host has of it; may be repeated."""
        self.hypervisor.end(domid)
        try:
            self._release(domid)
        finally:
            self.hypervisor.destroy(domid)
            with self.store() as store:
                xenstore_layout.remove(store, domid)

    def close(self) -> None:
        """Close the sessions with xenstored, if there are any."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _forget_ended(self, store: Store) -> None:
        """Remove the nodes of domains that ended after xenstored last saved its state."""
        known = {0, *self.hypervisor.domids()}
        for name in store.list("/local/domain") or ():
            if name.isdecimal() and int(name) not in known:
                xenstore_layout.remove(store, int(name))

    def _clear_away(self, domid: int) -> None:
        """Remove what an ended domain left; nothing if it is being made, or was meanwhile."""
        with lock_file.locked(self.folder / LOCK, self.deadlines.lab_lock):
            if not DomainBuilder.busy(self.hypervisor.folder(domid)) and _ended(state(self, domid)):
                self.destroy(domid)

    def _release(self, domid: int) -> None:
        """Release an ended domain's disks and ports; its folder must still be there.

        As long as it is, no other guest here takes them.
        """
        config = self._known(domid)
        if config:
            taps.disconnect(config, self.folder, domid)
            disks.release(config, self.owner(config.uuid), self.deadlines)

    def _new_store(self) -> Store:
        self._require_up()
        return Store(self._socket, self.deadlines)

    def _require_up(self) -> None:
        if self._xenstored() is None:
            raise HostError(f"no lab host is up in {self.folder}: xenqemu lab up {self.folder}")

    def _name(self, domid: int) -> str:
        config = self._known(domid)
        return config.name if config else str(domid)

    def _known(self, domid: int) -> DomainConfig | None:
        """Return what a domain was made from, None if its maker died before that was written."""
        try:
            return self.config(domid)
        except XenqemuError:
            return None

    def _xenstored(self) -> Process | None:
        """Return the process that listens on our xenstore's socket, None if none does.

        A pid file would not do: what it names may be another program by now, and `down` ends it.
        """
        with socket.socket(socket.AF_UNIX) as probe:
            whole, rest = divmod(self.deadlines.xenstored_start, 1)
            limit = _TIME.pack(int(whole), round(rest * 1e6))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
            try:
                probe.connect(os.fspath(self._socket))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            except BlockingIOError as error:
                raise HostTimeout(f"{self._socket}: xenstored hangs: its queue is full") from error
            pid, _user, _group = peer_credentials(probe)
        return Process.of(pid)


def _ended(now: DomainState) -> bool:
    return now.info is None and not now.trouble


def _make_private(folder: Path) -> None:
    """Make a folder unless it exists; it has guests' memory: it must be ours, closed to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise HostError(f"{folder} must be owned by you and closed to others (chmod 700)")
