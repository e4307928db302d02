"""A host as a whole: its domains, the operations on them, and the guests that `save_all` saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xenqemu.host.domain_state import DomainState, state
from xenqemu.host.protocol import Host
from xenqemu.operations import saved_guests
from xenqemu.operations.job import Job, job
from xenqemu.operations.journal.log import Damaged
from xenqemu.operations.left_suspended import LeftSuspended, left_suspended
from xenqemu.operations.recover import damaged
from xenqemu.operations.saved_guests import SavedGuest


@dataclass(frozen=True)
class Overview:
    """What there is; `left` are guests that another program left suspended."""

    domains: tuple[DomainState, ...]
    jobs: tuple[Job, ...]
    left: tuple[LeftSuspended, ...]
    damaged: tuple[Damaged, ...]
    saved: tuple[SavedGuest, ...]


def overview(host: Host, folder: Path) -> Overview:
    """Return what there is on a host, and as save files of `save_all` in `folder`.

    Raises `HostError` if the host does not say which domains there are, `OSError` if the folder is
    there and cannot be read.
    """
    return Overview(
        domains=tuple(state(host, domid) for domid in host.domids()),
        jobs=tuple(job(host)),
        left=tuple(left_suspended(host)),
        damaged=tuple(damaged(host)),
        saved=tuple(saved_guests.saved(folder)),
    )
