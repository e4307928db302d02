"""Whether a guest can be saved as it is now: what a save and a migration refuse, and warn of.

It is looked at and not touched.  What needs another check to have passed is not asked where that
refused: a guest that is suspended already would be refused for it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.allowed_resources import why_refused
from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import DomainState, state_and_device_model
from xenqemu.host.findings import Check, Finding, findings, refusals
from xenqemu.host.outside_state import outside_state
from xenqemu.host.protocol import Host
from xenqemu.operations.check_restore import unclaimed
from xenqemu.operations.given_config import require_fit
from xenqemu.operations.journal.log import About
from xenqemu.operations.save_devices import unsavable
from xenqemu.operations.save_file import fit_space, with_paused
from xenqemu.system.staged_file import draft_for

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel


@dataclass(frozen=True)
class Seen:
    """A guest as it was found; `device_model` was asked how it saves, and is not connected."""

    found: tuple[Finding, ...]
    paused: bool
    device_model_ran: bool
    device_model: DeviceModel | None


@dataclass(frozen=True)
class Outgoing:
    """What is to be written of a guest: `own` is its config, `given` one in its place.

    `config` is for the save file.  `to_file` is whether it is to stay in a file: then it may be
    paused, where it need not answer, and may come back here.
    """

    own: DomainConfig
    config: DomainConfig
    given: DomainConfig | None = None
    to_file: bool = True


def look(host: Host, domain: Domain, outgoing: Outgoing) -> Seen:
    """Return what a save of a guest would refuse or warn of, and the guest as it is."""
    own, config, given = outgoing.own, outgoing.config, outgoing.given
    with state_and_device_model(host, domain.domid) as (now, device_model):
        paused = outgoing.to_file and now.paused
        found = list(findings([("name", lambda: host.check_name(config.name))]))
        state: list[Check] = [
            ("state", lambda: _require_state(now, domain, paused=paused)),
            ("toolstacks", lambda: _others(host, domain)),
        ]
        found += (as_is := list(findings(state)))
        if not refusals(as_is):
            ask: list[Check] = [
                ("suspend", lambda: host.hypervisor.require_suspendable(domain.domid)),
                ("device-model", lambda: _device_model(device_model, domain.domid)),
            ]
            found += findings(ask)
        ran = not paused or now.device_model == "running"
    if given:
        found += findings([("config", lambda: _require_fit(host, domain, own, given))])
    found += outside_state(host.trust, own)
    refused = why_refused(host.trust, with_paused(config, paused)) if outgoing.to_file else ""
    if refused:
        text = f"a restore here would refuse the save file: {refused}"
        found.append(Finding.warning("trust", text))
    return Seen(tuple(found), paused, ran, device_model)


def savable(
    host: Host, domain: Domain, folder: Path | None = None, given: DomainConfig | None = None
) -> Iterator[Finding]:
    """Yield all that a save of a guest would refuse now, or warn of.

    A config may be `given` in place of its own.  With a `folder`, also whether its save file could
    be written there: where it has little space, all of the guest's memory is looked at, for pages
    of zeros.
    """
    yield from unclaimed(host, About("save", domain.domid, domain.name, domain.uuid, ""))
    own = host.config(domain.domid)
    config = own if given is None else given.with_extra(own.extra)
    yield from look(host, domain, Outgoing(own, config, given)).found
    if folder is not None:
        yield from findings([("space", lambda: _require_space(host, domain, own, folder))])


def _require_state(now: DomainState, domain: Domain, *, paused: bool) -> None:
    if paused:
        now.require_guest(domain)
    else:
        now.require_running(domain)


def _others(host: Host, domain: Domain) -> Iterator[HostError]:
    for other in host.concurrent_toolstacks(domain):
        yield HostError(f"domain {domain.domid} is in use by {other}")


def _device_model(device_model: DeviceModel | None, domid: int) -> Iterator[HostError]:
    """Yield what of the device model cannot be saved; else have it say how it saves."""
    if device_model is None:
        return
    blockers = list(unsavable(device_model, domid))
    yield from blockers
    if not blockers:
        device_model.prepare_save()


def _require_fit(host: Host, domain: Domain, own: DomainConfig, given: DomainConfig) -> None:
    info = host.hypervisor.info(domain.domid)
    if info:
        require_fit(given, own, info.memory)


def _require_space(host: Host, domain: Domain, own: DomainConfig, folder: Path) -> None:
    memory = host.hypervisor.memory(domain.domid)
    with draft_for(folder / f".{domain.uuid}.checked", host.trust.owners) as draft:
        fit_space(memory, own, memory.space(), draft.require_creatable, progress=_unheard)


def _unheard(_done: int, _total: int) -> None:
    """Report no progress."""
