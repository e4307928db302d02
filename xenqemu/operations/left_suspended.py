"""Guests that a program without a journal left suspended, or asked to suspend.

Where `xl save` is killed, its suspend request stays in xenstore.  The guest obeys when it gets to
it, and stays suspended from then on; no command of xl before 4.20 resumes it.  Only the state that
the parties show tells of this: a guest that is suspended or asked to be, which no running program
and no journal is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from xenqemu.errors import HostError
from xenqemu.host.domain import Domain, RunState
from xenqemu.host.domain_state import identity, state
from xenqemu.host.protocol import Host
from xenqemu.host.xenstore.names import AWAY
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation


@dataclass(frozen=True)
class LeftSuspended:
    """A guest that was left `suspended`, else asked to suspend, and how it was recovered.

    `resumed` says that it was told to run again, `moved` that it was destroyed as the copy of one
    that runs on another host.  `in_doubt` says that it may run there, so nothing was done.
    `state` is what all parties say of it now.
    """

    domain: Domain
    suspended: bool
    resumed: bool = False
    moved: bool = False
    in_doubt: bool = False
    state: str = ""

    @property
    def text(self) -> str:
        """What was found, and what was done or is to be done, for people."""
        what = "suspended" if self.suspended else "with a suspend request"
        found = f"was left {what} by a program that is gone"
        if self.in_doubt:
            return f"{found}: in doubt, it may run on another host; look, then --moved or --stayed"
        if self.moved:
            return f"{found}: destroyed, since it has moved"
        return f"{found}: " + (
            "it was resumed" if self.resumed else f"xenqemu recover {self.domain.domid} resumes it"
        )

    @property
    def complete(self) -> bool:
        """Whether nothing has to be tried again."""
        return not self.in_doubt


def left_suspended(host: Host, who: str = "") -> Iterator[LeftSuspended]:
    """Yield all such guests, or the one that `who` names, by its id or its name.

    Where a party does not say what a guest does, `status` tells that; here it is passed over.
    """
    journals = Journals(host.journals)
    journaled = [each.about for each in journals.found()]
    journaled += [each.about for each in journals.damaged() if each.about]
    for domid in host.domids():
        domain = identity(host, domid)
        about = _about(domain)
        if who not in ("", str(domid), domain.name) or any(map(about.concerns, journaled)):
            continue
        found = None
        with suppress(HostError):
            found = _looked_at(host, domain)
        if found and not host.concurrent_toolstacks(domain):
            yield found


def recover(
    host: Host, found: LeftSuspended, observe: Observer = unobserved, *, moved: bool | None = None
) -> LeftSuspended:
    """Resume a guest that was left suspended.

    One that xl renamed as migrated away may run on another host: it is left as it is until somebody
    has looked there and says whether it has `moved`.  Raises `HostError` where an operation on it
    has begun meanwhile, or a party fails.
    """
    domain = found.domain
    away = domain.name.endswith(AWAY)
    if away and moved is None:
        ended = replace(found, in_doubt=True)
    elif away and moved:
        host.destroy(domain.domid)
        return replace(found, moved=True)
    else:
        _resume(host, domain, observe)
        ended = replace(found, resumed=True)
    return replace(ended, state=str(state(host, domain.domid)))


def _looked_at(host: Host, domain: Domain) -> LeftSuspended | None:
    info = host.hypervisor.info(domain.domid)
    suspended = info is not None and info.run_state is RunState.SUSPENDED
    asked = info is not None and host.hypervisor.suspend_requested(domain.domid)
    return LeftSuspended(domain, suspended) if suspended or asked else None


def _about(domain: Domain) -> About:
    return About("resume", domain.domid, domain.name, domain.uuid, "")


def _resume(host: Host, domain: Domain, observe: Observer) -> None:
    who = (domain.domid, domain.uuid)
    name = domain.name.removesuffix(AWAY)
    with Operation.begin(host, _about(domain), observe) as job, job.phase(Phase.RELEASE):
        if _looked_at(host, domain) is None:
            return  # it runs by itself meanwhile
        if name != domain.name:
            host.rename(domain.domid, domain.name, name)
        for step in (
            steps.StopDirtyLog(*who),
            steps.ContinueDeviceModel(*who),
            steps.WithdrawSuspend(*who, withdrawn=True),  # and it resumes a suspended guest
        ):
            job.perform(job.undo(step))
