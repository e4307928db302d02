"""One domain on one host: which one is meant, and its state according to all parties.

`find` is called once, at the beginning of an operation.  Status and every precondition use `state`:
state is observed, not remembered.  Further queries of the device model belong into the same
`state_and_device_model` block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from xenqemu.errors import HostError
from xenqemu.host.domain import Domain, DomainInfo, RunState
from xenqemu.host.protocol import Host
from xenqemu.host.xenstore.store import Store
from xenqemu.shown_text import shown

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel

DOMID_DIGITS = 5
"""Of the highest domain id, 0x7FEF."""

_PAUSED = ("running", "paused", "prelaunch", "")
"""Run states of the device model of a paused guest; "" if it has none."""

HYPERVISOR = "hypervisor"
"""How the hypervisor is called among the parties."""

T = TypeVar("T")


@dataclass(frozen=True)
class DomainState:
    """What each party says of a domain, "" if it does not know the domain.

    `device_model` is QEMU's run state.  `trouble` holds the errors of parties that did not answer.
    """

    domid: int
    name: str
    info: DomainInfo | None
    device_model: str
    trouble: tuple[str, ...] = ()

    @property
    def uuid(self) -> str:
        """The domain's uuid, as the hypervisor has it; "" if it does not know the domain."""
        return self.info.uuid if self.info else ""

    @property
    def running(self) -> bool:
        """Whether all parties agree that the guest is running."""
        running = self.info is not None and self.info.run_state is RunState.RUNNING
        return running and self.device_model in ("running", "") and not self.trouble

    @property
    def paused(self) -> bool:
        """Whether all parties agree that the guest is paused, and could run.

        QEMU runs then, or was started and not continued yet; in the lab it is stopped itself.
        """
        paused = self.info is not None and self.info.run_state is RunState.PAUSED
        return paused and self.device_model in _PAUSED and not self.trouble

    def require_running(self, domain: Domain) -> Self:
        """Return it.

        Raises `HostError` with the state if `domain` is not running, or is another one by now.
        """
        if not self.running:
            raise HostError(f"domain {domain.domid} is not running ({self})")
        return self.require_guest(domain)

    def require_guest(self, domain: Domain) -> Self:
        """Return it; raise `HostError` if `domain` is another one by now."""
        if self.info is not None and not domain.matches(self.info):
            raise HostError(f"domain {domain.domid} is no longer {domain.name} ({domain.uuid})")
        return self

    def __str__(self) -> str:
        """One line for people."""
        parts = [f"name in xenstore: {shown(self.name) or 'none'}"]
        if self.info or not self._unheard:
            run_state = self.info.run_state.value if self.info else "no such domain"
            parts.insert(0, f"hypervisor: {run_state}")
        if self.device_model:
            parts.append(f"device model: {self.device_model}")
        return "; ".join([*self._unheard, *parts, *self._rest])

    @property
    def _unheard(self) -> list[str]:
        """Why the hypervisor did not answer; empty if it did."""
        return [each for each in self.trouble if each.startswith(f"{HYPERVISOR}: ")]

    @property
    def _rest(self) -> list[str]:
        return [each for each in self.trouble if each not in self._unheard]


def find(host: Host, who: str) -> Domain:
    """Return the domain that `who` names, by id or by name, as xl takes it.

    Raises `HostError` if there is none.
    """
    with host.store() as store:
        return _identity(host, store, _domid(host, store, who))


def identity(host: Host, domid: int) -> Domain:
    """Return which domain has an id, according to xenstore; what is not there is ""."""
    with host.store() as store:
        return _identity(host, store, domid)


def state(host: Host, domid: int) -> DomainState:
    """Return what every party says of a domain; errors of parties are part of the state."""
    with state_and_device_model(host, domid) as (now, _device_model):
        return now


@contextmanager
def state_and_device_model(
    host: Host, domid: int
) -> Iterator[tuple[DomainState, DeviceModel | None]]:
    """Yield the state of a domain, and its device model, which is still connected.

    Its socket serves one client, so the block must be short.  The device model is None if the
    domain has none, or if it did not answer.
    """
    trouble: list[str] = []

    def ask(party: str, question: Callable[[], T], unknown: T) -> T:
        try:
            return question()
        except HostError as error:
            trouble.append(f"{party}: {error}")
            return unknown

    with ExitStack() as session:
        info = ask(HYPERVISOR, lambda: host.hypervisor.info(domid), None)
        name = ask("xenstore", lambda: _name(host, domid), "")
        unknown: tuple[str, DeviceModel | None] = ("", None)
        status, device_model = unknown
        if info:
            connected = partial(_connected, host, domid, session)
            status, device_model = ask("device model", connected, unknown)
        yield DomainState(domid, name, info, status, tuple(trouble)), device_model


def require_running(host: Host, domain: Domain) -> DomainState:
    """Return the state of a running domain; raises as `DomainState.require_running`."""
    return state(host, domain.domid).require_running(domain)


def _domid(host: Host, store: Store, who: str) -> int:
    if who.isdecimal() and len(who) <= DOMID_DIGITS:
        domid = int(who)
        if domid and host.hypervisor.info(domid) is not None:
            return domid
    for entry in filter(str.isdecimal, store.list("/local/domain") or ()):
        if entry != "0" and store.read(f"/local/domain/{entry}/name") == who:
            return int(entry)
    raise HostError(f"there is no domain {who!r} on this host")


def _identity(host: Host, store: Store, domid: int) -> Domain:
    home = f"/local/domain/{domid}"
    name = store.read(f"{home}/name") or ""
    uuid = (store.read(f"{home}/vm") or "").removeprefix("/vm/")
    if not uuid:
        info = host.hypervisor.info(domid)
        uuid = info.uuid if info else ""
    return Domain(domid, uuid, name, store.read(f"/libxl/{domid}/type") or "")


def _name(host: Host, domid: int) -> str:
    with host.store() as store:
        return store.read(f"/local/domain/{domid}/name") or ""


def _connected(host: Host, domid: int, session: ExitStack) -> tuple[str, DeviceModel | None]:
    """Return a device model's run state, and itself, connected until `session` ends."""
    device_model = host.device_model(domid)
    if device_model is None:
        return "", None
    session.enter_context(device_model)
    return device_model.status(), device_model
