"""One domain on one host: which one is meant, and what all its parties say of it.

`find` is asked once, at the beginning of an operation.  `state` is the one question that status,
every precondition and every refusal ask: state is observed, not remembered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from xenqemu.errors import HostError
from xenqemu.host.protocol import Domain, DomainInfo, Host, RunState
from xenqemu.host.xenstore.store import Store

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
    trouble: list[str] = []

    def ask(party: str, question: Callable[[], T], unknown: T) -> T:
        try:
            return question()
        except HostError as error:
            trouble.append(f"{party}: {error}")
            return unknown

    info = ask("hypervisor", lambda: host.hypervisor.info(domid), None)
    name = ask("xenstore", lambda: _name(host, domid), "")
    status = ask("device model", lambda: _status(host, domid), "") if info else ""
    return DomainState(domid, name, info, status, tuple(trouble))


def require_running(host: Host, domain: Domain) -> DomainState:
    """Return the state of a running domain.

    Raises `HostError` with all parties' words if it does not run, or is another one by now.
    """
    now = state(host, domain.domid)
    if not now.running:
        raise HostError(f"domain {domain.domid} is not running ({now})")
    if now.info is not None and not domain.is_that(now.info):
        raise HostError(f"domain {domain.domid} is not {domain.name} ({domain.uuid}) any more")
    return now


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


def _status(host: Host, domid: int) -> str:
    device_model = host.device_model(domid)
    if device_model is None:
        return ""
    with device_model:
        return device_model.status()
