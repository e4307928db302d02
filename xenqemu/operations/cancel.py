"""Cancelling a running operation, from any process."""

from __future__ import annotations

import time

from xenqemu.errors import HostError, HostTimeout
from xenqemu.host.protocol import Host
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import Found
from xenqemu.operations.recover import unfinished
from xenqemu.system.cancellation import wait_cancellable

PAUSE = 0.05
"""Seconds between two looks whether the operation has ended."""

CANCEL_TIMEOUT = 60.0
"""Seconds that an operation has to end when it is asked to."""


def cancel(host: Host, who: str, timeout: float = CANCEL_TIMEOUT) -> list[Found]:
    """Ask the operations that are running on a domain to end; return them once they have.

    `who` is its name or id.  Before its point of no return an operation rolls back, after it it
    finishes what is left to do.  Raises `HostError` if none is running there, `HostTimeout` if one
    has not ended after `timeout` seconds.
    """
    running = [each for each in unfinished(host, who) if each.running]
    if not running:
        raise HostError(f"no operation is running on {who}")
    for each in running:
        Journals(host.journals).cancel(each)

    def ended(pause: float) -> bool:
        numbers = {each.path for each in unfinished(host, who) if each.running}
        if numbers.isdisjoint(each.path for each in running):
            return True
        time.sleep(min(pause, PAUSE))
        return False

    if not wait_cancellable(ended, timeout):
        what = ", ".join(f"the {each.about} ({each.about.who})" for each in running)
        raise HostTimeout(f"asked to end {timeout:g} s ago, and still running: {what}")
    return running
