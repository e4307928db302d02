"""Which other operations on the same guest do not keep a new one from beginning."""

from __future__ import annotations

from xenqemu.host.domain import RunState
from xenqemu.host.protocol import Host
from xenqemu.operations.journal.log import About, Found

MOVING = {"migration", "reception"}
"""Two operations that run at once on a guest that is migrated to its own host."""


def is_harmless(host: Host, about: About, other: Found) -> bool:
    """Return whether the operation `about` may begin beside `other`, running or unfinished.

    One that only has drafts to remove is harmless: perhaps nobody ever can.  So is one that only
    has to withdraw a suspend request, if the guest is not suspended.
    """
    if other.running:
        return {about.verb, other.about.verb} == MOVING
    left = other.state()
    if left.only_removes:
        return True
    if not left.only_withdraws:
        return False
    info = host.hypervisor.info(other.about.domid)
    return info is None or info.run_state is not RunState.SUSPENDED
