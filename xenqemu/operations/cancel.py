"""Ending an operation that goes on, from outside of its process."""

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
    """Ask what goes on on the domain `who` to end, and return that once it has.

    It ends by itself, in order: before its point of no return as if it had never begun, after
    it by what is left to do.  Raises `HostError` if nothing goes on there, `HostTimeout` if it
    has not ended after `timeout` seconds.
    """
    going_on = [each for each in unfinished(host, who) if each.busy]
    if not going_on:
        raise HostError(f"nothing goes on on {who}")
    for each in going_on:
        Journals(host.journals).cancel(each)

    def ended(pause: float) -> bool:
        numbers = {each.path for each in unfinished(host, who) if each.busy}
        if numbers.isdisjoint(each.path for each in going_on):
            return True
        time.sleep(min(pause, PAUSE))
        return False

    if not wait_cancellable(ended, timeout):
        what = ", ".join(f"the {each.about} ({each.about.who})" for each in going_on)
        raise HostTimeout(f"asked to end {timeout:g} s ago, and goes on: {what}")
    return going_on
