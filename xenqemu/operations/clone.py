"""Make clones of a save file: domains with its memory, and nothing else that only one can have.

The save file is checked once, and on a host that can do so it is unpacked once.  Each clone is an
operation of its own, with its own journal: what fails of one is rolled back, and the others stay.
No clone gets a disk to write that the guest of the save file has, or another clone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock

from xenqemu.errors import HostError, UsageError, XenqemuError
from xenqemu.formats.config.clone_config import cloned
from xenqemu.formats.config.domain_config import Disk, DomainConfig
from xenqemu.formats.stream.source import Source
from xenqemu.host.disk.backing import Backing
from xenqemu.host.domain import Domain
from xenqemu.host.findings import findings, require
from xenqemu.host.protocol import BuildOptions, Host, Template
from xenqemu.operations.at_once import at_once
from xenqemu.operations.check_restore import CFG_INSTEAD, takeable
from xenqemu.operations.checked_save_file import (
    Again,
    CheckedSaveFile,
    config_of,
    opened_save_file,
)
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import CloneOptions, RestoreOptions, key_for, seconds_for
from xenqemu.operations.restore import unpause
from xenqemu.operations.save_file import was_paused
from xenqemu.system.zstd.unpacked import unpacked

OWN_SERIAL = ("pty", "null", "none", "vc", "stdio")
"""Serial ports that each guest can have."""


@dataclass(frozen=True)
class Clone:
    """What became of one clone: its id, or 0 and why there is none."""

    name: str
    uuid: str
    domid: int = 0
    error: XenqemuError | None = None


OnClone = Callable[[Clone], None]
"""Called with each clone once it is known what became of it."""


def clone(
    host: Host,
    path: Path,
    options: RestoreOptions,
    *,
    observe: Observer = unobserved,
    tell: OnClone = lambda _clone: None,
) -> list[Clone]:
    """Make the clones that `options.clone` asks for of the save file `path`; return all of them.

    They run, or are paused as with `restore`.  Raises, before anything was built, `UsageError` and
    `HostError` for clones that would share what only one can have, and what `restore` raises for a
    save file.  What fails of one clone is in its `Clone`.
    """
    key = key_for(host, options)
    with opened_save_file(path, host.trust) as file, unpacked(file) as save_file:
        observe(Event(Phase.CHECK, Kind.STARTED))
        own = config_of(save_file)
        checked = CheckedSaveFile.of(path, file, save_file, own, sealed=options.seal, key=key)
        used = own if options.config is None else options.config.with_extra(own.extra)
        configs = clone_configs(used, options.clone or CloneOptions())
        found = takeable(
            host,
            checked.needs(configs[0]),  # the others differ in what is their own alone
            own,
            options.config,
            instead=CFG_INSTEAD,
        )
        shared = findings([("disks", lambda: require_own_devices(used, configs))])
        require(chain(shared, found), f"{used.name} cannot be cloned here")
        observe(Event(Phase.CHECK, Kind.DONE))
        paused = options.paused or was_paused(own)
        making = _Making(host, checked, options, _one_by_one(observe), paused=paused)
        return making.clones(configs, tell)


@dataclass
class _Making:
    """The clones of one checked save file, being made."""

    host: Host
    checked: CheckedSaveFile
    options: RestoreOptions
    observe: Observer
    paused: bool
    _reading: Again | None = None

    def clones(self, configs: Sequence[DomainConfig], tell: OnClone) -> list[Clone]:
        """Make them, tell of each, and return what became of each."""
        made: dict[str, Clone] = {}

        def note(config: DomainConfig, done: Clone) -> None:
            made[config.name] = done
            tell(done)

        def note_done(config: DomainConfig, done: Future[Clone]) -> None:
            note(config, done.result())

        def opened() -> Source:
            self._reading = self.checked.again()
            return self._reading.source

        def progress(done: int, total: int) -> None:
            self.observe(Event(Phase.BUILD, Kind.PROGRESS, done, total))

        how = BuildOptions(self.checked.contents.size, None, self.options.monitor)
        with self.host.template(opened, progress, how) as template:
            self._require_same()  # where it was read already
            make = partial(self._made, template)
            if template.parallel > 1 and len(configs) > 1:
                at_once(self.host, template.parallel, configs, make, note_done)
            else:
                for config in configs:
                    note(config, make(config))
        return [made[config.name] for config in configs]

    def _require_same(self) -> None:
        """Raise unless what was read last is what was checked."""
        reading, self._reading = self._reading, None
        if reading:
            reading.require_same()

    def _made(self, template: Template, config: DomainConfig) -> Clone:
        """Make one clone, or roll it back."""
        try:
            domid = self._run(template, config)
        except XenqemuError as error:
            return Clone(config.name, config.uuid, error=error)
        return Clone(config.name, config.uuid, domid)

    def _run(self, template: Template, config: DomainConfig) -> int:
        host = self.host
        about = About("restore", 0, config.name, config.uuid, str(self.checked.path.absolute()))
        timeout = seconds_for(host, self.options)
        with Operation.begin(host, about, self.observe, timeout) as job:
            with job.phase(Phase.BUILD):
                destroy = steps.DestroyIncomplete(config.name, config.uuid)
                building = job.cleanup(destroy)
                domid = template.build(config)
                job.undo(destroy)
                job.drop(building)
                self._require_same()
            if not self.paused:
                with job.phase(Phase.RELEASE):
                    unpause(host, Domain(domid, config.uuid, config.name, config.type), job)
        return domid


def _one_by_one(observe: Observer) -> Observer:
    """Return an observer that is called by one thread at a time."""
    lock = Lock()

    def observed(event: Event) -> None:
        with lock:
            observe(event)

    return observed


def clone_configs(own: DomainConfig, options: CloneOptions) -> list[DomainConfig]:
    """Return the configs of all clones of the guest `own`."""
    disks = dict(map(_disk_option, options.disks))
    begin = options.name or f"{own.name}-clone"
    numbered = [f"{begin}-{number}" for number in range(1, options.count + 1)]
    names = numbered if options.count > 1 else [begin]
    return [
        cloned(own, name, {vdev: file.replace("{name}", name) for vdev, file in disks.items()})
        for name in names
    ]


def require_own_devices(own: DomainConfig, configs: Sequence[DomainConfig]) -> None:
    """Raise `HostError` if a clone would share what only one guest can have.

    That is a disk that one of them writes, or that the guest `own` writes, and a serial port that
    leads to a file or a socket.
    """
    taken: dict[Backing, tuple[str, Disk]] = {}
    _take(own, taken)
    for config in configs:
        for disk in config.disks:
            _require_own(config, disk, own, taken)
        _take(config, taken)
        shared = [port for port in config.serial if port not in OWN_SERIAL]
        if shared:
            raise HostError(f"clones of {own.name} would share its serial port {shared[0]}")


def _require_own(
    config: DomainConfig, disk: Disk, own: DomainConfig, taken: Mapping[Backing, tuple[str, Disk]]
) -> None:
    backing = _backing(disk)
    who, theirs = taken.get(backing, ("", disk)) if backing else ("", disk)
    if who and (disk.readwrite or theirs.readwrite):
        hint = f"give each clone its own: --disk {disk.vdev}=FILE, with {{name}} in FILE"
        raise HostError(
            f"{config.name} and {who} would share {disk.target}, which is written; {hint}"
        )
    if disk.target and disk.readwrite and backing is None:
        raise HostError(f"{config.name} needs {disk.target}, a copy of {own.name}'s {disk.vdev}")


def _take(config: DomainConfig, taken: dict[Backing, tuple[str, Disk]]) -> None:
    """Note which disks a guest has; one that is written is told of rather than one that is read."""
    for disk in config.disks:
        backing = _backing(disk)
        if backing and (disk.readwrite or backing not in taken):
            taken[backing] = (config.name, disk)


def _backing(disk: Disk) -> Backing | None:
    """Return what a disk lies on, None if it is empty or not there."""
    return Backing.of(Path(disk.target)) if disk.target and Path(disk.target).exists() else None


def _disk_option(words: str) -> tuple[str, str]:
    vdev, equals, file = words.partition("=")
    if not (vdev and equals and file):
        raise UsageError(f"--disk {words}: expected VDEV=FILE, as hda=/img/web.raw")
    return vdev, file
