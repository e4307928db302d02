"""One domain on one host: which one is meant, and what all its parties say of it.

`find` is asked once, at the beginning of an operation.  `state` is the one question that status,
every precondition and every refusal ask: state is observed, not remembered.  Who has more to ask
the device model asks it in the same `conversation`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar

from xenqemu.errors import HostError
from xenqemu.host.protocol import Domain, DomainInfo, Host, RunState
from xenqemu.host.xenstore.store import Store

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel

DOMID_DIGITS = 5
"""Of the highest domain id, 0x7FEF."""

T = TypeVar("T")


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

    def require_running(self, domain: Domain) -> Self:
        """Return it.

        Raises `HostError` with all parties' words if `domain` does not run, or is another by now.
        """
        if not self.running:
            raise HostError(f"domain {domain.domid} is not running ({self})")
        if self.info is not None and not domain.matches(self.info):
            raise HostError(f"domain {domain.domid} is no longer {domain.name} ({domain.uuid})")
        return self

    def __str__(self) -> str:
        """One line for people."""
        run_state = self.info.run_state.value if self.info else "no such domain"
        parts = [f"hypervisor: {run_state}", f"name in xenstore: {self.name or 'none'}"]
        if self.device_model:
            parts.append(f"device model: {self.device_model}")
        return "; ".join([*parts, *self.trouble])


def find(host: Host, who: str) -> Domain:
    """Return the domain that `who` names, by id or by name, as xl takes it.

    Raises `HostError` if there is none.
    """
    with host.store() as store:
        return _identity(host, store, _domid(host, store, who))


def identity(host: Host, domid: int) -> Domain:
    """Return which domain has an id, as xenstore has it; what that does not tell is ""."""
    with host.store() as store:
        return _identity(host, store, domid)


def state(host: Host, domid: int) -> DomainState:
    """Ask every party about a domain; what one of them cannot answer is part of the state."""
    with conversation(host, domid) as (now, _device_model):
        return now


@contextmanager
def conversation(host: Host, domid: int) -> Iterator[tuple[DomainState, DeviceModel | None]]:
    """Yield the state of a domain, and its device model, to be asked more while still connected.

    Its socket serves one client, so what is done in the block must be short.  It is None if the
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
        info = ask("hypervisor", lambda: host.hypervisor.info(domid), None)
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
