"""A world in memory: guests, and a host whose parties are views of them and record each call.

What is on disk is real, and so are the bytes: memory is written and read by the libxc writer and
reader, device state is a stream of QEMU's.  Each call to a party (hypervisor, device model,
xenstore, toolstack, observer), and each system call that makes a draft a save file, has a number; a
`Fault` makes one of them fail.  What no operation may ever do (two running copies, memory read
while it changes, two clients at one device model) is in `World.broken`.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.doubles.in_memory.faults import Fault, How, failure
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.host import Host
from tests.doubles.in_memory.save_files import config, device_state
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import Domain
from xenqemu.host.trust import DEFAULT_TRUST, Trust
from xenqemu.system.zstd.unpacked import unpacked

FOLDERS = tempfile.TemporaryDirectory(prefix="journals.")
"""Where each world has a folder for its journals."""

SYSTEM_CALLS = ("fsync", "rename", "link", "unlink", "writev", "utime")

ACTS = {
    *("hypervisor.suspend", "hypervisor.resume", "hypervisor.pause", "hypervisor.unpause"),
    *("device_model.stop", "device_model.save", "device_model.cont"),
    *("memory.save", "memory.save_live", "memory.rest", "memory.stop", "memory.load"),
    *("moment.enable", "moment.begin", "moment.end"),
    *("hypervisor.read_rest", "hypervisor.stop_moment"),
    *("hypervisor.stop_dirty_log", "host.build", "host.rename", "host.destroy"),
    *("os.fsync", "os.rename"),
}


Left = tuple[dict[int, Guest], list[str], int]


@dataclass
class World:
    """Guests, faults and calls; `host` is the view that operations get."""

    guests: dict[int, Guest] = field(default_factory=lambda: {1: Guest.running()})
    calls: list[str] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    fault: Fault | None = None
    blockers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    trust: Trust = DEFAULT_TRUST
    objections: list[str] = field(default_factory=list)
    has_device_model: bool = True
    obstacle: str = ""
    sends: bool = False
    clients: int = 0
    _dead: str = ""
    next_domid: int = 2
    device_state: Callable[[int], bytes] = device_state

    def __post_init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=FOLDERS.name))
        self.image = self.folder.with_suffix(".img")
        self.host = Host(self)

    def call(self, name: str, act: Callable[[], object]) -> object:
        """Do `act` for a party, unless a fault makes it fail; `name` is "party.act"."""
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
                self.die()
        raise failure(party, name, fault.how)

    def die(self) -> None:
        """Leave what a killed process leaves: the guests, and what is on disk."""
        (self.folder / "guests").write_bytes(pickle.dumps(self.left()))
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
            self.inherit(pickle.loads((self.folder / "guests").read_bytes()))
        self.heal()
        return killed

    def left(self) -> Left:
        """Return what another process needs of the guests to continue with them."""
        return self.guests, self.broken, self.next_domid

    def inherit(self, left: Left) -> None:
        """Continue with the guests of another process."""
        self.guests, self.broken, self.next_domid = left

    def heal(self) -> None:
        """Make all calls succeed from now on."""
        self.fault, self._dead = None, ""

    def acts(self) -> list[str]:
        """Return the calls that change something, in their order."""
        return [name for name in self.calls if name in ACTS]

    def observe(self, event: object) -> None:
        """Be the observer of an operation."""
        self.call("observer.event", lambda: self.events.append(event))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record system calls too, for the block; fsync does nothing."""
        with pytest.MonkeyPatch.context() as patch:
            for name in SYSTEM_CALLS:
                patch.setattr(os, name, self._recorded(name))
            yield

    def add(self, guest: Guest) -> int:
        domid, self.next_domid = self.next_domid, self.next_domid + 1
        self.guests[domid] = guest
        return domid

    def domain(self, domid: int = 1) -> Domain:
        """Return that domain, without asking a party."""
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


def loaded(path: Path) -> Guest:
    """Return the guest of a save file, as another host would build it."""
    other = World(guests={})
    with path.open("rb") as file, unpacked(file) as inside:
        return other.guests[other.host.build(Source(inside), lambda done, total: None)]
