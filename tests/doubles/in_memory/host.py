"""The host of a world: its toolstack, and access to the other parties."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.parties import DeviceModel, Hypervisor, Memory, Store
from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream.source import Source
from xenqemu.host.disk import lease
from xenqemu.host.disk.lease import Owner
from xenqemu.host.domain import Domain
from xenqemu.host.ended_operation import unrecorded
from xenqemu.host.findings import Finding
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.protocol import BuildOptions, Needs
from xenqemu.host.xen import requirements
from xenqemu.host.xenstore.names import INCOMING
from xenqemu.operations.save_file import read_save_file

if TYPE_CHECKING:
    from tests.doubles.in_memory.world import World


class Host:
    """The toolstack, and access to the other parties."""

    kind = "fake"
    own_folder = None
    deadlines = Deadlines(peer_end=0.5)
    records = staticmethod(unrecorded)

    def __init__(self, world: World) -> None:
        self._world = world
        self.identity = f"fake:{world.folder}"
        self.hypervisor = Hypervisor(world)
        self.journals = world.folder / "operations"
        self.trust = world.trust

    def close(self) -> None:
        """Do nothing: nothing is open."""

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

    def concurrent_toolstacks(self, domain: Domain) -> list[str]:
        return self._world.call("host.concurrent_toolstacks", lambda: list(self._world.others))

    def owner(self, uuid: str) -> Owner:
        return Owner(str(self._world.folder), "boot", uuid)

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

    def findings(self, needs: Needs, *, quick: bool = False) -> Iterator[Finding]:
        found = [Finding.refusal("host", HostError(why)) for why in self._world.objections]
        return self._world.call("host.findings", lambda: iter(found))

    def findings_elsewhere(self, needs: Needs, info: str, domains: str) -> Iterator[Finding]:
        return requirements.findings_elsewhere(needs, info, domains)

    def check_name(self, name: str) -> None:
        self._world.call("host.check_name", lambda: None)

    def rename(self, domid: int, old: str, new: str) -> None:
        def change() -> None:
            guest = self._guest(domid)
            if guest.config.name not in (old, new) or self._has(new, domid):
                raise HostError(f"cannot rename domain {domid} to {new}")
            guest.config = guest.config.with_name(new)

        self._world.call("host.rename", change)

    def build(self, save_file: Source, progress, options: BuildOptions | None = None) -> int:
        """Make a paused domain or leave nothing: however it fails, as the protocol demands."""
        before = set(self._world.guests)
        given = options.config if options else None
        try:
            return self._world.call("host.build", lambda: self._built(save_file, progress, given))
        except BaseException:
            for domid in set(self._world.guests) - before:
                self._removed(domid)
            raise

    @contextmanager
    def template(self, opened, progress, options: BuildOptions) -> Iterator[Template]:
        yield Template(self, opened, progress)

    def destroy(self, domid: int) -> None:
        self._world.call("host.destroy", lambda: self._removed(domid))

    def _built(self, save_file: Source, progress, given: DomainConfig | None) -> int:
        built: list[Guest] = []

        def prepare(what: DomainConfig) -> Memory:
            built.append(Guest(given or what, {}, paused=True, devices_run=False))
            return Memory(self._world, built[0])

        parts = read_save_file(save_file, prepare, progress)
        (guest,) = built
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
            lease.take(image, self.owner(what.uuid), incoming=incoming)

    def _removed(self, domid: int) -> None:
        """Release a domain's disks, then remove it."""
        guest = self._world.guests.get(domid)
        for image in lease.images(guest.config) if guest else ():
            lease.release(image, self.owner(guest.config.uuid))
        self._world.guests.pop(domid, None)

    def _has(self, name: str, but: int) -> bool:
        others = (guest for domid, guest in self._world.guests.items() if domid != but)
        return any(guest.config.name == name for guest in others)

    def _guest(self, domid: int) -> Guest:
        try:
            return self._world.guests[domid]
        except KeyError:
            raise HostError(f"there is no domain {domid}") from None


class Template:
    """A save file of which domains are built, one after the other."""

    parallel = 1

    def __init__(self, host: Host, opened, progress) -> None:
        self._host, self._opened, self._progress = host, opened, progress

    def build(self, what: DomainConfig) -> int:
        return self._host.build(self._opened(), self._progress, BuildOptions(config=what))
