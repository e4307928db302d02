"""Recovering what a killed operation left: the guest runs again, or its save file is complete.

What is left to do is in its journal, and is done by the code that does it for an operation that
fails.  What the parties say now decides what is done, since much may have happened.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from xenqemu.errors import HostError
from xenqemu.host.domain import RunState
from xenqemu.host.domain_state import state
from xenqemu.host.protocol import Host
from xenqemu.operations import guest_leases, left_suspended
from xenqemu.operations.events import Observer, unobserved
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About, Damaged, Found
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.left_suspended import LeftSuspended

SAVE = "save"
"""The verb of an operation whose other copy is no guest that runs."""


@dataclass(frozen=True)
class Recovered:
    """An operation that was recovered, and how.

    `phase` is where it was interrupted.  `committed` says that its point of no return was passed,
    `meaning` what is the guest then.  `state` is what all parties say of its domain
    now, "" if it had none.  `trouble` is what could not be done; `complete`
    says that nothing has to be tried again.  `in_doubt` says that nothing was done, since nobody
    here can tell whether the guest was migrated.
    """

    about: About
    phase: str
    committed: bool
    meaning: str
    state: str
    trouble: tuple[str, ...]
    complete: bool
    in_doubt: bool


def recover(
    host: Host,
    who: str = "",
    observe: Observer = unobserved,
    *,
    moved: bool | None = None,
    forget: bool = False,
) -> list[Recovered | LeftSuspended]:
    """Recover unfinished operations: all, or those on the domain `who`, its name or id.

    Running operations are left alone, and so are others on the same guest.  A migration in doubt
    is left as it is, unless the leases of the guest's disks show how it ended, or somebody has
    looked at both copies and says whether the guest has `moved`.  Drafts of save files that cannot
    be removed are tried again each time, unless they are to be forgotten (`forget`).

    Of all, one that cannot be recovered does not stop the others.  Of one, it raises `HostError`.
    Those whose journals are `damaged` are left as they are.

    A guest that another program left suspended is resumed if it is `who`, or had an unfinished
    operation; others are only named, since somebody may keep them so.
    """
    found = Journals(host.journals).found()
    running = [each.about for each in found if each.running]
    end = _end if who else _end_contained
    ended = [
        end(host, each, observe, moved, forget=forget)
        for each in found
        if not each.running
        and (not who or is_on(each.about, who))
        and not any(each.about.concerns(other) for other in running)
    ]
    recovered = {(each.about.domid, each.about.uuid) for each in ended}
    left = [
        left_suspended.recover(host, each, observe, moved=moved)
        if who or (each.domain.domid, each.domain.uuid) in recovered
        else each
        for each in left_suspended.left_suspended(host, who)
    ]
    return [*ended, *left]


def unfinished(host: Host, *names: str) -> list[Found]:
    """Return the operations, running or unfinished, on a domain of any of these names or ids."""
    return [
        each
        for each in Journals(host.journals).found()
        if any(is_on(each.about, who) for who in names)
    ]


def damaged(host: Host, *names: str) -> list[Damaged]:
    """Return the damaged journals: all without `names`, else those that name none of other guests.

    That is those of a domain of any of these names or ids, and those that do not say whose they
    are.
    """
    return [
        each
        for each in Journals(host.journals).damaged()
        if not (names and each.about) or any(is_on(each.about, who) for who in names)
    ]


def is_on(about: About, who: str) -> bool:
    """Return whether an operation is on the domain that `who` names, by id or by name."""
    return who == about.name or (bool(about.domid) and who == str(about.domid))


def _end_contained(
    host: Host, found: Found, observe: Observer, moved: bool | None, *, forget: bool
) -> Recovered:
    """Recover an operation; what raises is its trouble, and it stays to be recovered."""
    try:
        return _end(host, found, observe, moved, forget=forget)
    except HostError as error:
        left = found.state()
        return Recovered(
            found.about,
            left.phase,
            left.committed,
            left.meaning if left.committed else "",
            "",
            (str(error),),
            complete=False,
            in_doubt=bool(left.doubt),
        )


def _end(
    host: Host, found: Found, observe: Observer, moved: bool | None, *, forget: bool
) -> Recovered:
    about, left = found.about, found.state()
    if left.doubt and guest_leases.moved(host, about.uuid, left.images):
        if moved is False:
            raise HostError(f"another host has the disks of {about.name}: it has moved")
        moved = True
    if left.doubt and moved is False and about.verb != SAVE:
        _require_no_copy(host, about)
    with closing(Journals(host.journals).adopt(found)) as log:
        cause = HostError(f"the process of the {about} is gone")
        trouble = Operation(host, log, observe).recover(cause, moved=moved, forget=forget)
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
    """Raise `HostError` if the guest runs here under its own name: it cannot have stayed."""
    for domid in host.domids_of(about.name, about.uuid):
        info = host.hypervisor.info(domid)
        if info is not None and info.run_state is RunState.RUNNING:
            raise HostError(f"domain {domid} ({about.name}) runs here: the guest has moved")
