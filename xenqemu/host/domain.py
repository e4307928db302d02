"""One domain on one host, seen by all its parties at once.

`state` is the one question that status, every precondition and every refusal ask: state is
observed, not remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from xenqemu.errors import HostError, XenqemuError
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.libxc_records import CpuidLeaf
from xenqemu.formats.source import Source
from xenqemu.host.hypervisor import DomainInfo, Hypervisor, Progress, RunState
from xenqemu.host.lease import Party
from xenqemu.host.ledger import Ledger
from xenqemu.host.policy import Deadlines
from xenqemu.host.store import Store

if TYPE_CHECKING:
    from xenqemu.host.device_model import DeviceModel

DOMID_DIGITS = 5
"""Of the highest domain id, 0x7FEF."""

T = TypeVar("T")


@dataclass(frozen=True)
class Needs:
    """What a record asks of the host that is to take its guest.

    `context` is, of Xen's state of an HVM guest, the longest record of each typecode in bytes;
    `cpuid` is what the guest was told of its CPU, empty where that is not known.  `moving` says
    that the guest may be here yet, under the same name, on its way from this host to itself.
    """

    config: DomainConfig
    image_version: int
    context: Mapping[int, int] = field(default_factory=dict)
    cpuid: tuple[CpuidLeaf, ...] = ()
    moving: bool = False

    @property
    def lab(self) -> bool:
        """Whether the guest is one of the lab, whose CPU is in the state of QEMU."""
        return self.config.extra.get("host") == "lab"


@dataclass(frozen=True)
class BuildOptions:
    """How a domain is to be built of a record of `size` bytes.

    `config` takes the place of the record's own; `monitor` leaves a process behind that sees to
    the guest's reboots, where the host has such.
    """

    size: int = 0
    config: DomainConfig | None = None
    monitor: bool = True


class Host(Protocol):
    """What a host offers to operations: its parties, and the toolstack that builds domains."""

    @property
    def kind(self) -> str:
        """What sort of host this is: "lab" or "xen"."""

    @property
    def deadlines(self) -> Deadlines:
        """How long each party has."""

    @property
    def identity(self) -> str:
        """What tells this host from all others, from its start to its end."""

    @property
    def hypervisor(self) -> Hypervisor:
        """The hypervisor."""

    @property
    def ledger(self) -> Ledger:
        """The operations that go on here."""

    def domids(self) -> list[int]:
        """Return the ids of all guests, ended ones too."""

    def domids_of(self, name: str, uuid: str) -> list[int]:
        """Return the ids of the domains of that name and uuid, half-made ones too."""

    def rivals(self, domid: int) -> list[str]:
        """Return who else works on a domain just now, in words for people."""

    def party(self, uuid: str) -> Party:
        """Return who a guest of this host is to other hosts that share its storage."""

    def store(self) -> Store:
        """Return a connection to xenstore, not yet opened: use it in a `with`."""

    def device_model(self, domid: int) -> DeviceModel | None:
        """Return the device model of a domain, not yet connected; None if it has none."""

    def config(self, domid: int) -> DomainConfig:
        """Return what the domain was made from."""

    def needs(self, domid: int, config: DomainConfig) -> Needs:
        """Return what a record of a running domain will ask of its next host, by `config`."""

    def admit(self, needs: Needs) -> None:
        """Raise the reason why this host cannot take such a guest, before anything is built."""

    def objections(self, needs: Needs) -> Iterator[XenqemuError]:
        """Give every reason why it cannot, and those that take longer to find, as errors."""

    def build(self, record: Source, progress: Progress, options: BuildOptions) -> int:
        """Make a paused domain of a checked xl save file and return its id, or leave nothing."""

    def rename(self, domid: int, old: str, new: str) -> None:
        """Call a domain `new` that is called `old`; nothing if it is called so already.

        Raises `HostError` if it has another name, or another domain has the new one.
        """

    def shut_down(self, domid: int) -> None:
        """Ask a guest to shut down by itself, and do not wait for it."""

    def destroy(self, domid: int) -> None:
        """End a domain and remove all that is its on this host; may be repeated."""

    def close(self) -> None:
        """Give back what the host holds open; it may be used again."""


@dataclass(frozen=True)
class DomainState:
    """What each party says of a domain; "" stands for "knows nothing of it".

    `device_model` is QEMU's run state.  `trouble` holds what parties said in place of an answer.
    """

    domid: int
    name: str
    info: DomainInfo | None
    device_model: str
    trouble: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """The domain's uuid, as the hypervisor has it; "" where that knows no such domain."""
        return self.info.uuid if self.info else ""

    @property
    def running(self) -> bool:
        """Whether all parties agree that the guest runs."""
        going = self.info is not None and self.info.run_state is RunState.RUNNING
        return going and self.device_model in ("running", "") and not self.trouble

    def __str__(self) -> str:
        """One line for people."""
        run_state = self.info.run_state.value if self.info else "no such domain"
        parts = [f"hypervisor: {run_state}", f"name in xenstore: {self.name or 'none'}"]
        if self.device_model:
            parts.append(f"device model: {self.device_model}")
        return "; ".join([*parts, *self.trouble])


def collected(checks: Iterable[Callable[[], None]]) -> Iterator[XenqemuError]:
    """Give what each of `checks` raises."""
    for check in checks:
        try:
            check()
        except XenqemuError as error:
            yield error


def find(host: Host, who: str) -> int:
    """Return the id of the domain that `who` names, by id or by name, as xl takes it.

    Raises `HostError` if there is none.
    """
    with host.store() as store:
        if who.isdecimal() and len(who) <= DOMID_DIGITS:
            domid = int(who)
            if domid and host.hypervisor.info(domid) is not None:
                return domid
        for entry in filter(str.isdecimal, store.list("/local/domain") or ()):
            if entry != "0" and store.read(f"/local/domain/{entry}/name") == who:
                return int(entry)
    raise HostError(f"there is no domain {who!r} on this host")


def state(host: Host, domid: int) -> DomainState:
    """Ask every party about a domain; what one of them cannot answer is part of the state."""
    trouble: list[str] = []

    def ask(party: str, question: Callable[[], T], unknown: T) -> T:
        try:
            return question()
        except HostError as error:
            trouble.append(f"{party}: {error}")
            return unknown

    info = ask("hypervisor", lambda: host.hypervisor.info(domid), None)
    name = ask("xenstore", lambda: name_of(host, domid), "")
    status = ask("device model", lambda: _status(host, domid), "") if info else ""
    return DomainState(domid, name, info, status, tuple(trouble))


def require_running(host: Host, domid: int) -> DomainState:
    """Return the state of a running domain; raise `HostError` with all parties' words if not."""
    now = state(host, domid)
    if not now.running:
        raise HostError(f"domain {domid} is not running ({now})")
    return now


def name_of(host: Host, domid: int) -> str:
    """Return a domain's name in xenstore, "" if it has none there."""
    with host.store() as store:
        return store.read(f"/local/domain/{domid}/name") or ""


def _status(host: Host, domid: int) -> str:
    device_model = host.device_model(domid)
    if device_model is None:
        return ""
    with device_model:
        return device_model.status()
