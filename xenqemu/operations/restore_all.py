"""All guests of a host after it has booted: each is brought back, in order.

A record is removed once its guest was seen to run for a while.  From the moment that a guest is
let run its record has another name, so that nobody brings it back a second time: its disks have
gone on meanwhile.  Guests run on while the next ones are brought back, and are looked at then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import Forbidden, HostError, PastReturn, XenqemuError
from xenqemu.host.domain_state import find, state
from xenqemu.host.protocol import Host
from xenqemu.operations.outcome import Around, How, Outcome, Teller, nothing_around, words
from xenqemu.operations.restore import restore
from xenqemu.operations.saved_guests import Kept, saved, spent
from xenqemu.settings.xenqemu_conf import RestoreAll
from xenqemu.system.deadline import Deadline


@dataclass(frozen=True)
class _Running:
    """A guest that was let run, and is looked at when `proved` has passed."""

    kept: Kept
    domid: int
    proved: Deadline


def restore_all(
    open_host: Callable[[], Host],
    folder: Path,
    plan: RestoreAll,
    tell: Teller,
    *,
    around: Around = nothing_around,
) -> None:
    """Bring back all guests whose records are in `folder`, as `plan` says.

    `tell` hears of each, whatever becomes of it: one that fails keeps no other from coming back,
    and keeps its record.  Each is brought back with `around` around that.
    """
    with open_host() as host:
        running = [each for kept in spent(folder) if (each := _found(host, kept, plan, tell))]
        for kept in saved(folder, plan.first):
            try:
                with around("restore", file=str(kept.path)):
                    done = restore(host, kept.path, before_run=kept.spend)
            except Forbidden as error:
                text = f"{words(error)}; its record is {kept.path}"
                tell(Outcome(kept.name, How.FORBIDDEN, text))
            except PastReturn as error:
                text = f"{words(error)}; its record is {kept.ran}"
                tell(Outcome(kept.name, How.FAILED, text))
            except (XenqemuError, OSError) as error:
                text = f"{words(error)}; {_taken_back(kept)}"
                tell(Outcome(kept.name, How.FAILED, text))
            else:
                running.append(_Running(kept, done.domid, Deadline.after(plan.proof)))
        for each in running:
            time.sleep(each.proved.left)
            tell(_proved(host, each, plan))


def _taken_back(kept: Kept) -> str:
    """Return a record its name back; return where it is, in words."""
    try:
        kept.roll_back()
    except OSError as error:
        return f"its record is {kept.ran}, which cannot get its name back: {error.strerror}"
    return f"its record is {kept.path}"


def _found(host: Host, kept: Kept, plan: RestoreAll, tell: Teller) -> _Running | None:
    """Look for a guest that was let run before, by somebody who then ended too early."""
    try:
        return _Running(kept, find(host, kept.name).domid, Deadline.after(plan.proof))
    except HostError as error:
        text = f"it was brought back, and nobody saw it run on ({error}); its record is {kept.ran}"
        tell(Outcome(kept.name, How.FAILED, text))
        return None


def _proved(host: Host, each: _Running, plan: RestoreAll) -> Outcome:
    """Remove the record of a guest that runs."""
    now = state(host, each.domid)
    worked = now.info.cpu_seconds if now.info else 0.0
    if not (now.running and worked):
        why = f"it was let run, and does not run on after {plan.proof:g} s ({now}; "
        why += f"its processors have worked for {worked:g} s)"
        return Outcome(each.kept.name, How.FAILED, f"{why}; its record is {each.kept.ran}")
    try:
        each.kept.ran.unlink()
    except OSError as error:
        why = f"it runs, and its record {each.kept.ran} cannot be removed: {error.strerror}"
        return Outcome(each.kept.name, How.FAILED, why)
    return Outcome(each.kept.name, How.RESTORED, f"as domain {each.domid}")
