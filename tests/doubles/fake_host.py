"""A world in memory: guests, and a host whose parties are views of them and record each call.

What is on disk is real, and so are the bytes: memory is written and read by the libxc writer and
reader, device state is a QEVM stream.  Each call to a party (hypervisor, device model, xenstore,
toolstack, observer), and each system call that makes a file a record, has a number; a `Fault`
makes one of them fail.  What no operation may ever do (two running copies, memory read while it
changes, two clients at one device model) is noted in `World.broken`.
"""

from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Self

import pytest

from tests.property import strategies as made
from xenqemu.errors import (
    DeviceModelError,
    HostError,
    HypervisorError,
    NotConverged,
    ReplyLost,
    StoreError,
    XenqemuError,
)
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxc, libxl, xl
from xenqemu.formats.stream.page_data import PAGE_SIZE, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Party
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.precopy import Iteration
from xenqemu.host.protocol import BuildOptions, Domain, DomainInfo, Live, Needs, RunState
from xenqemu.host.xen import requirements
from xenqemu.host.xenstore.names import INCOMING
from xenqemu.operations.save_file import read_record

NAME = "sample"
UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"
SPECIAL = (0xFEFFC, 0xFEFFF)
"""The special pages that `made.PARAMS` names."""

FOLDERS = tempfile.TemporaryDirectory(prefix="journals.")
"""Where each world has a folder for its journals."""

SYSTEM_CALLS = ("fsync", "rename", "link", "unlink", "writev")


def config(
    kind: str = "hvm",
    vcpus: int = 2,
    name: str = NAME,
    uuid: str = UUID,
    image: Path | None = None,
    **extra: object,
) -> DomainConfig:
    """Return a small configuration; `image` is its disk, `extra` what xenqemu keeps in it."""
    tree: dict[str, object] = {
        "c_info": {"type": kind, "name": name, "uuid": uuid},
        "b_info": {"max_vcpus": vcpus, "max_memkb": 64, f"type.{kind}": {}},
    }
    if image:
        disk = {"pdev_path": str(image), "vdev": "hda", "format": "raw", "readwrite": 1}
        tree["disks"] = [disk]
    return DomainConfig(tree | ({"xenqemu": extra} if extra else {}))


def device_state(tick: int = 0) -> bytes:
    """Return the state of a machine that has one device, a timer."""
    return device_stream.write(
        [device_stream.Section(0, "timer", 0, 2, struct.pack(">QQQ", tick, 0, 0))]
    )


STEPS = (
    *(made.CPUID, made.MSRS, libxc.StaticDataEnd(), made.PAGES, made.TSC, made.CONTEXT),
    *(libxc.HvmParams({1: 5, 17: 6}), libxc.End()),
)
"""A sound image of an HVM guest with two vcpus, whose special pages are among its three."""

DEVICES = (libxl.EmulatorContext(2, 0, device_state()), libxl.End())


def record(what: DomainConfig | None = None, steps=STEPS, after=DEVICES, domain=made.DOMAIN):
    """Return an xl save file."""
    header = xl.XlHeader.of_json((what or config()).dump().decode())
    return header.pack() + made.stream(steps, after, domain=domain)


def checkpointed(count: int) -> bytes:
    """Return a libxl stream of `count` checkpoints, as Remus leaves it."""
    out = io.BytesIO()
    sink = Sink(out)
    stream = libxl.Writer(sink)
    stream.write(libxl.LibxcContext())
    image = libxc.Writer(sink, made.DOMAIN)
    made.put(image, STEPS[:3])
    for _ in range(count):
        made.put(image, (*STEPS[3:-1], libxc.Checkpoint()))
        stream.image_written(checkpoint=True)
        stream.write(DEVICES[0])
        stream.write(libxl.CheckpointEnd())
    return out.getvalue()


def text(error: BaseException | None) -> str:
    """Return all that an error says: its own words, and the notes on it."""
    if error is None:
        return ""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


class How(Enum):
    """How a call fails."""

    REFUSED = "before it is done"
    LOST = "after it is done"
    INTERRUPTED = "by Ctrl-C before it is done"
    INTERRUPTED_AFTER = "by Ctrl-C after it is done"
    DEAD = "and so do all later ones to that party"
    KILLED = "by kill -9 before it is done"
    KILLED_AFTER = "by kill -9 after it is done"

    @property
    def kills(self) -> bool:
        """Whether nobody is left to deal with it."""
        return self in (How.KILLED, How.KILLED_AFTER)


@dataclass(frozen=True)
class Fault:
    """Call number `at` (from 0) fails."""

    at: int
    how: How


def failure(party: str, name: str, how: How) -> BaseException:
    """Return what a call raises that fails so."""
    words = f"{name} failed"
    if how in (How.INTERRUPTED, How.INTERRUPTED_AFTER):
        return KeyboardInterrupt()
    if party in ("os", "journal"):
        return OSError(errno.EIO, f"{words}: {os.strerror(errno.EIO)}")
    if party == "observer":
        return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    if how is How.LOST:
        return ReplyLost(words)
    parties = {"hypervisor": HypervisorError, "device_model": DeviceModelError, "store": StoreError}
    return parties.get(party, HostError)(words)


@dataclass
class Guest:
    """A domain: `tick` counts on while it runs, in its memory and in its device state.

    `noted` is whether somebody notes which of its pages change, `loggable` whether one can.
    """

    config: DomainConfig
    pages: dict[int, bytes]
    tick: int = 0
    suspended: bool = False
    held: bool = False
    devices_run: bool = True
    crashed: bool = False
    down: bool = False
    obeys: bool = True
    worked: float = 0.0
    noted: bool = False
    loggable: bool = True

    @property
    def runs(self) -> bool:
        stands = self.suspended or self.held or self.crashed or self.down
        return self.devices_run and not stands

    @property
    def run_state(self) -> RunState:
        if self.crashed:
            return RunState.CRASHED
        if self.down:
            return RunState.SHUTDOWN
        if self.suspended:
            return RunState.SUSPENDED
        return RunState.PAUSED if self.held else RunState.RUNNING

    @classmethod
    def running(cls, tick: int = 41, what: DomainConfig | None = None) -> Guest:
        pages = {pfn: bytes([pfn & 0xFF]) * PAGE_SIZE for pfn in (*range(8), *SPECIAL)}
        guest = cls(what or config(), pages, tick - 1)
        guest.count()
        return guest

    def count(self) -> None:
        """Go on by a tick."""
        self.tick += 1
        self.pages[3] = struct.pack("<Q", self.tick).ljust(PAGE_SIZE, b"\0")


@dataclass
class World:
    """All there is; `host` is the view that operations get."""

    guests: dict[int, Guest] = field(default_factory=lambda: {1: Guest.running()})
    calls: list[str] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    fault: Fault | None = None
    blockers: list[str] = field(default_factory=list)
    rivals: list[str] = field(default_factory=list)
    objections: list[str] = field(default_factory=list)
    has_device_model: bool = True
    sends: bool = False
    clients: int = 0
    _dead: str = ""
    _next: int = 2

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
        self.image = self.folder.with_suffix(".img")
        self.host = Host(self)

    def call(self, name: str, act: Callable[[], object]) -> object:
        """Do `act` for a party, unless it is to fail; `name` is "party.act"."""
        number = len(self.calls)
        self.calls.append(name)
        party = name.partition(".")[0]
        fault = self.fault
        if party == self._dead:
            raise failure(party, name, How.DEAD)
        if fault is None or fault.at != number:
            return self._done(act)
        if fault.how is How.DEAD:
            self._dead = party
        try:
            if fault.how in (How.LOST, How.INTERRUPTED_AFTER, How.KILLED_AFTER):
                self._done(act)
        finally:
            if fault.how.kills:
                self._die()
        raise failure(party, name, fault.how)

    def _die(self) -> None:
        """Leave behind what a killed process does: the guests, and what is on disk."""
        (self.folder / "guests").write_bytes(pickle.dumps((self.guests, self.broken, self._next)))
        os.kill(os.getpid(), signal.SIGKILL)

    def outlive(self, run: Callable[[], object]) -> bool:
        """Run something in a process that may be killed; return whether it was."""
        child = os.fork()
        if not child:
            try:
                run()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        if killed:
            left = (self.folder / "guests").read_bytes()
            self.guests, self.broken, self._next = pickle.loads(left)
        self.heal()
        return killed

    def heal(self) -> None:
        """Let nothing fail any more."""
        self.fault, self._dead = None, ""

    def acts(self) -> list[str]:
        """Return the calls that change something, in their order."""
        return [name for name in self.calls if name in ACTS]

    def observe(self, event: object) -> None:
        """Be the observer of an operation."""
        self.call("observer.event", lambda: self.events.append(event))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Have system calls recorded too, for the block; syncing is taken for done."""
        with pytest.MonkeyPatch.context() as patch:
            for name in SYSTEM_CALLS:
                patch.setattr(os, name, self._recorded(name))
            yield

    def add(self, guest: Guest) -> int:
        domid, self._next = self._next, self._next + 1
        self.guests[domid] = guest
        return domid

    def domain(self, domid: int = 1) -> Domain:
        """Return which domain that is, without asking a party."""
        what = self.guests[domid].config if domid in self.guests else config()
        return Domain(domid, what.uuid, what.name, what.type)

    def running(self) -> list[int]:
        """Return the ids of the domains that run."""
        return [domid for domid, guest in self.guests.items() if guest.runs]

    def _done(self, act: Callable[[], object]) -> object:
        result = act()
        uuids = [self.guests[domid].config.uuid for domid in self.running()]
        if len(set(uuids)) < len(uuids):
            self.broken.append(f"two copies run after {self.calls[-1]}")
        return result

    def _recorded(self, name: str) -> Callable[..., object]:
        real = (lambda fd: None) if name == "fsync" else getattr(os, name)

        def recorded(file: int | str | Path, *args: object, **kwargs: object) -> object:
            party = "journal" if self._in_journal(file) else "os"
            return self.call(f"{party}.{name}", lambda: real(file, *args, **kwargs))

        return recorded

    def _in_journal(self, file: int | str | Path) -> bool:
        path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else Path(file)
        return path.is_relative_to(self.folder)


ACTS = {
    *("hypervisor.suspend", "hypervisor.resume", "hypervisor.pause", "hypervisor.unpause"),
    *("device_model.stop", "device_model.save", "device_model.cont"),
    *("memory.save", "memory.save_live", "memory.rest", "memory.stop", "memory.load"),
    *("hypervisor.stop_dirty_log", "host.build", "host.rename", "host.destroy"),
    *("os.fsync", "os.rename"),
}


class Host:
    """The toolstack, and the way to the other parties."""

    kind = "fake"
    deadlines = Deadlines(peer_end=0.5)

    def __init__(self, world: World) -> None:
        self._world = world
        self.identity = f"fake:{world.folder}"
        self.hypervisor = Hypervisor(world)
        self.journals = world.folder / "operations"

    def close(self) -> None:
        """Hold nothing open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def domids(self) -> list[int]:
        return self._world.call("host.domids", lambda: sorted(self._world.guests))

    def shut_down(self, domid: int) -> None:
        def ask() -> None:
            self._guest(domid).down |= self._guest(domid).obeys

        self._world.call("host.shut_down", ask)

    def domids_of(self, name: str, uuid: str) -> list[int]:
        def answer() -> list[int]:
            found = self._world.guests.items()
            return [domid for domid, guest in found if guest.config.name == name]

        return self._world.call("host.domids_of", answer)

    def rivals(self, domain: Domain) -> list[str]:
        return self._world.call("host.rivals", lambda: list(self._world.rivals))

    def party(self, uuid: str) -> Party:
        return Party(str(self._world.folder), "boot", uuid)

    def store(self) -> Store:
        return self._world.call("host.store", lambda: Store(self._world))

    def device_model(self, domid: int) -> DeviceModel | None:
        if not self._world.has_device_model:
            return None
        return self._world.call("host.device_model", lambda: DeviceModel(self._world, domid))

    def config(self, domid: int) -> DomainConfig:
        return self._world.call("host.config", lambda: self._guest(domid).config)

    def needs(self, domid: int, what: DomainConfig) -> Needs:
        return self._world.call("host.needs", lambda: Needs(what, 3))

    def admit(self, needs: object) -> None:
        self._world.call("host.admit", lambda: None)

    def objections(self, needs: Needs) -> Iterator[HostError]:
        found = [HostError(why) for why in self._world.objections]
        return self._world.call("host.objections", lambda: iter(found))

    def objections_elsewhere(self, needs: Needs, info: str, domains: str) -> Iterator[XenqemuError]:
        return requirements.objections_elsewhere(needs, info, domains)

    def rename(self, domid: int, old: str, new: str) -> None:
        def change() -> None:
            guest = self._guest(domid)
            if guest.config.name not in (old, new) or self._has(new, domid):
                raise HostError(f"cannot call domain {domid} {new}")
            guest.config = guest.config.with_name(new)

        self._world.call("host.rename", change)

    def build(self, record: Source, progress, options: BuildOptions | None = None) -> int:
        """Make a paused domain or leave nothing: however it fails, as the protocol has it."""
        before = set(self._world.guests)
        given = options.config if options else None
        try:
            return self._world.call("host.build", lambda: self._built(record, progress, given))
        except BaseException:
            for domid in set(self._world.guests) - before:
                self._removed(domid)
            raise

    def destroy(self, domid: int) -> None:
        self._world.call("host.destroy", lambda: self._removed(domid))

    def _built(self, record: Source, progress, given: DomainConfig | None) -> int:
        made_of: list[Guest] = []

        def prepare(what: DomainConfig) -> Memory:
            made_of.append(Guest(given or what, {}, held=True, devices_run=False))
            return Memory(self._world, made_of[0])

        parts = read_record(record, prepare, progress)
        (guest,) = made_of
        if parts.device_state is not None:
            (guest.tick,) = struct.unpack_from(
                ">Q", device_stream.read(parts.device_state).sections[0].data
            )
        domid = self._world.add(guest)
        self._take_disks(guest.config)
        return domid

    def _take_disks(self, what: DomainConfig) -> None:
        incoming = what.name.endswith(INCOMING)
        for image in lease.images(what):
            lease.take(image, self.party(what.uuid), incoming=incoming)

    def _removed(self, domid: int) -> None:
        """Remove a domain; it lets go of its disks as long as it is there."""
        guest = self._world.guests.get(domid)
        for image in lease.images(guest.config) if guest else ():
            lease.release(image, self.party(guest.config.uuid))
        self._world.guests.pop(domid, None)

    def _has(self, name: str, but: int) -> bool:
        others = (guest for domid, guest in self._world.guests.items() if domid != but)
        return any(guest.config.name == name for guest in others)

    def _guest(self, domid: int) -> Guest:
        try:
            return self._world.guests[domid]
        except KeyError:
            raise HostError(f"there is no domain {domid}") from None


class Hypervisor:
    """The view of memory and run states."""

    def __init__(self, world: World) -> None:
        self._world = world

    def info(self, domid: int) -> DomainInfo | None:
        def answer() -> DomainInfo | None:
            guest = self._world.guests.get(domid)
            if guest is None:
                return None
            uuid, vcpus = guest.config.uuid, guest.config.max_vcpus
            guest.worked += 0.25 * guest.runs
            memory = len(guest.pages) * PAGE_SIZE
            return DomainInfo(domid, uuid, guest.run_state, memory, vcpus, guest.worked)

        return self._world.call("hypervisor.info", answer)

    def suspend(self, domid: int) -> None:
        self._set("suspend", domid, suspended=True)

    def settle(self, domid: int) -> None:
        self._set("settle", domid)

    def resume(self, domid: int) -> None:
        self._set("resume", domid, suspended=False)

    def pause(self, domid: int) -> None:
        self._set("pause", domid, held=True)

    def unpause(self, domid: int) -> None:
        self._set("unpause", domid, held=False)

    def destroy(self, domid: int) -> None:
        self._world.call("hypervisor.destroy", lambda: self._world.guests.pop(domid, None))

    def memory(self, domid: int) -> Memory:
        return self._world.call(
            "hypervisor.memory", lambda: Memory(self._world, self._world.guests[domid])
        )

    def stop_dirty_log(self, domid: int) -> None:
        self._set("stop_dirty_log", domid, noted=False)

    def _set(self, act: str, domid: int, **state: bool) -> None:
        def change() -> None:
            if domid not in self._world.guests:
                raise HypervisorError(f"there is no domain {domid}")
            vars(self._world.guests[domid]).update(state)

        self._world.call(f"hypervisor.{act}", change)


class Memory:
    """The view of one guest's pages, written as Xen's own records are."""

    def __init__(self, world: World, guest: Guest) -> None:
        self._world = world
        self._guest = guest

    def room(self) -> int:
        return self._world.call("memory.room", lambda: len(self._guest.pages) * 2 * PAGE_SIZE)

    def save(self, out, progress) -> None:
        self._world.call("memory.save", lambda: self._save(out, progress))

    def load(self, source: Source, progress) -> None:
        self._world.call("memory.load", lambda: self._load(source, progress))

    def loggable(self) -> bool:
        return self._world.call("memory.loggable", lambda: self._guest.loggable)

    def save_live(self, out, progress, live: Live) -> None:
        """Write the guest in two iterations, in which it ticks on; then suspend it, or give up."""
        self._world.call("memory.save_live", lambda: setattr(self._guest, "noted", True))
        writer = self._begun(out)
        for number in (1, 2):
            self._write(writer, sorted(self._guest.pages), progress)
            self._guest.count()
            live.report(Iteration(number, 10, 40960, 0.5, 1))
        if live.precopy.give_up:
            raise NotConverged("it never settles")
        live.suspend()
        self._world.call("memory.rest", lambda: self._rest(writer, progress))
        live.report(Iteration(3, 1, 4096, 0.1))
        self._world.call("memory.stop", lambda: setattr(self._guest, "noted", False))

    def _save(self, out, progress) -> None:
        writer = self._begun(out)
        self._require_still()
        self._write(writer, sorted(self._guest.pages), progress)
        self._end(writer)

    def _rest(self, writer: libxc.Writer, progress) -> None:
        self._require_still()
        self._write(writer, [3], progress)
        self._end(writer)

    def _require_still(self) -> None:
        if not self._guest.suspended or self._guest.devices_run:
            self._world.broken.append("memory saved while it may change")

    def _begun(self, out) -> libxc.Writer:
        writer = libxc.Writer(out, made.DOMAIN)
        made.put(writer, (made.CPUID, made.MSRS, libxc.StaticDataEnd()))
        return writer

    def _write(self, writer: libxc.Writer, pfns: list[int], progress) -> None:
        for done in range(0, len(pfns), 5):
            batch = pfns[done : done + 5]
            writer.pages(PageData.of(batch), [self._guest.pages[pfn] for pfn in batch])
            progress((done + len(batch)) * PAGE_SIZE, len(pfns) * PAGE_SIZE)

    def _end(self, writer: libxc.Writer) -> None:
        made.put(writer, (made.TSC, made.CONTEXT, made.PARAMS, libxc.End()))

    def _load(self, source: Source, progress) -> None:
        def take(pages: PageData, source: Source) -> None:
            for run in pages.runs():
                for pfn in range(run.pfn, run.pfn + run.pages * run.has_data):
                    self._guest.pages[pfn] = source.exact(PAGE_SIZE, "a page")
            progress(len(self._guest.pages) * PAGE_SIZE, 0)

        for _ in libxc.read(source, take):
            pass


class DeviceModel:
    """The view of a guest's devices: a connection, one at a time."""

    def __init__(self, world: World, domid: int) -> None:
        self._world = world
        self._domid = domid
        self._open = False

    def __enter__(self) -> Self:
        def connect() -> None:
            if self._world.clients:
                self._world.broken.append("two clients at one device model")

        self._world.call("device_model.connect", connect)
        self._open = True
        self._world.clients += 1
        return self

    def __exit__(self, *error: object) -> None:
        self._open = False
        self._world.clients -= 1

    def status(self) -> str:
        return self._ask("status", lambda: "running" if self._guest.devices_run else "paused")

    def blockers(self) -> list[str]:
        return self._ask("blockers", lambda: list(self._world.blockers))

    def stop(self) -> None:
        self._ask("stop", lambda: setattr(self._guest, "devices_run", False))

    def cont(self) -> None:
        self._ask("cont", lambda: setattr(self._guest, "devices_run", True))

    def announce(self) -> None:
        self._ask("announce", lambda: None)

    def save_state_bytes(self, *, live: bool) -> bytes:
        if live != self._world.sends:
            self._world.broken.append(f"saved with live={live} a guest that does otherwise")
        return self._ask("save", lambda: device_state(self._guest.tick))

    @property
    def _guest(self) -> Guest:
        return self._world.guests[self._domid]

    def _ask(self, command: str, answer: Callable[[], object]) -> object:
        if not self._open:
            self._world.broken.append(f"{command} without a connection")
        return self._world.call(f"device_model.{command}", answer)


class Store:
    """The view of names."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> Self:
        self._world.call("store.connect", lambda: None)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def read(self, path: str) -> str | None:
        def answer() -> str | None:
            *_, domid, node = path.split("/")
            guest = self._world.guests.get(int(domid))
            if guest is None:
                return None
            what = guest.config
            return {"name": what.name, "vm": f"/vm/{what.uuid}", "type": what.type}.get(node)

        return self._world.call("store.read", answer)

    def list(self, path: str) -> list[str]:
        assert path == "/local/domain"
        return self._world.call("store.list", lambda: ["0", *map(str, self._world.guests)])


def loaded(path: Path) -> Guest:
    """Return the guest that a record holds, as another host would build it."""
    other = World(guests={})
    with path.open("rb") as file:
        return other.guests[other.host.build(Source(file), lambda done, total: None)]
