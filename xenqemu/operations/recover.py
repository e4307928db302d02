"""Ending what a killed operation began: the guest runs again, or its record is whole.

What it left to do stands in its file, and is done by the code that does it for an operation that
fails.  What is to be done is decided by what the parties say now, since much may have happened.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from xenqemu.errors import HostError
from xenqemu.host.domain_state import state
from xenqemu.host.protocol import Host, RunState
from xenqemu.operations import guest_leases
from xenqemu.operations.events import Observer, unobserved
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About, Found
from xenqemu.operations.journal.operation import Operation


@dataclass(frozen=True)
class Recovered:
    """An operation that was ended, and how.

    `phase` is how far it had come.  `finished` says that its point of no return had been passed,
    `meaning` what is the guest for that reason.  `state` is what all parties say of its domain
    now, "" if it had none.  `trouble` is what could not be done: with any that has to be done
    again, the operation's file stays.  `doubtful` says that nothing was done, since nobody here
    can tell whether a guest has moved.
    """

    about: About
    phase: str
    finished: bool
    meaning: str
    state: str
    trouble: tuple[str, ...]
    whole: bool
    doubtful: bool


def recover(
    host: Host, who: str = "", observe: Observer = unobserved, *, moved: bool | None = None
) -> list[Recovered]:
    """End the operations that were left: all, or those on the domain `who`, named or by id.

    Operations that go on are left alone, and so is whatever concerns the same guest.  A migration
    of which nobody here can tell how it ended is left as it is, unless the leases of the guest's
    disks tell, or somebody has looked at both copies and says whether the guest has `moved`.
    """
    found = Journals(host.journals).found()
    busy = [each.about for each in found if each.busy]
    return [
        _end(host, each, observe, moved)
        for each in found
        if not each.busy
        and (not who or is_on(each.about, who))
        and not any(each.about.concerns(other) for other in busy)
    ]


def unfinished(host: Host, *names: str) -> list[Found]:
    """Return the operations that go on or were left on a domain of any of these names or ids."""
    return [
        each
        for each in Journals(host.journals).found()
        if any(is_on(each.about, who) for who in names)
    ]


def is_on(about: About, who: str) -> bool:
    """Return whether an operation is on the domain that `who` names, by id or by name."""
    return who == about.name or (bool(about.domid) and who == str(about.domid))


def _end(host: Host, found: Found, observe: Observer, moved: bool | None) -> Recovered:
    about, left = found.about, found.state()
    if left.doubt and guest_leases.moved(host, about.uuid, left.images):
        if moved is False:
            raise HostError(f"another host has the disks of {about.name}: it has moved")
        moved = True
    if left.doubt and moved is False:
        _require_no_copy(host, about)
    with closing(Journals(host.journals).adopt(found)) as log:
        cause = HostError(f"the process of the {about} is gone")
        trouble = Operation(host, log, observe).recover(cause, moved=moved)
        now = str(state(host, about.domid)) if about.domid else ""
        notes = tuple(getattr(cause, "__notes__", ()))
        return Recovered(
            about,
            log.state.phase,
            log.state.committed,
            log.state.meaning if log.state.committed else "",
            now,
            (*trouble, *notes),
            not log.unfinished,
            bool(log.state.doubt),
        )


def _require_no_copy(host: Host, about: About) -> None:
    """Raise `HostError` if a guest that is said to have stayed runs here under its own name."""
    for domid in host.domids_of(about.name, about.uuid):
        info = host.hypervisor.info(domid)
        if info is not None and info.run_state is RunState.RUNNING:
            raise HostError(f"domain {domid} ({about.name}) runs here: the guest has moved")
