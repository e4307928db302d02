"""Restore all guests of a host after it has booted, in order.

A save file is removed once its guest has run for a while.  When a guest is unpaused its save file
is renamed, so that nobody restores it a second time: the guest has written to its disks since.
Each guest is checked after all of them were restored.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import Forbidden, HostError, PastReturn, XenqemuError
from xenqemu.host.domain_state import find, state
from xenqemu.host.protocol import Host
from xenqemu.operations.outcome import GuestHooks, How, Outcome, OutcomeObserver, no_hooks, words
from xenqemu.operations.restore import restore
from xenqemu.operations.saved_guests import SavedGuest, already_run, saved
from xenqemu.settings.xenqemu_conf import RestoreAll
from xenqemu.system.deadline import Deadline
from xenqemu.system.signals import allow_interrupts


@dataclass(frozen=True)
class _Running:
    """A guest that was unpaused, and is checked when `proof` has passed."""

    guest: SavedGuest
    domid: int
    proof: Deadline


def restore_all(
    open_host: Callable[[], Host],
    folder: Path,
    plan: RestoreAll,
    observe: OutcomeObserver,
    *,
    hooks: GuestHooks = no_hooks,
) -> None:
    """Restore all guests whose save files are in `folder`, as `plan` says.

    `observe` is called with each outcome.  One that fails does not stop the others, and keeps its
    save file.  `hooks` are run for each.
    """
    with open_host() as host:
        running = [
            each for guest in already_run(folder) if (each := _found(host, guest, plan, observe))
        ]
        for guest in saved(folder, plan.first):
            try:
                with hooks("restore", file=str(guest.path)):
                    done = restore(host, guest.path, before_run=guest.mark_as_run)
            except Forbidden as error:
                text = f"{words(error)}; its save file is {guest.path}"
                observe(Outcome(guest.name, How.FORBIDDEN, text))
            except PastReturn as error:
                text = f"{words(error)}; its save file is {guest.ran}"
                observe(Outcome(guest.name, How.FAILED, text))
            except (XenqemuError, OSError) as error:
                text = f"{words(error)}; {_renamed_back(guest)}"
                observe(Outcome(guest.name, How.FAILED, text))
            else:
                running.append(_Running(guest, done.domid, Deadline.after(plan.proof)))
        allow_interrupts()  # a guest that was not seen to run keeps its save file
        for each in running:
            time.sleep(each.proof.left)
            observe(_proved(host, each, plan))


def _renamed_back(guest: SavedGuest) -> str:
    """Rename a save file back; return where it is, for people."""
    try:
        guest.roll_back()
    except OSError as error:
        return f"its save file is {guest.ran}, which cannot be renamed back: {error.strerror}"
    return f"its save file is {guest.path}"


def _found(
    host: Host, guest: SavedGuest, plan: RestoreAll, observe: OutcomeObserver
) -> _Running | None:
    """Look for a guest that an earlier restore-all unpaused, and that was not checked then."""
    try:
        return _Running(guest, find(host, guest.name).domid, Deadline.after(plan.proof))
    except HostError as error:
        text = f"it was restored, and was not seen to run ({error}); its save file is {guest.ran}"
        observe(Outcome(guest.name, How.FAILED, text))
        return None


def _proved(host: Host, each: _Running, plan: RestoreAll) -> Outcome:
    """Remove the save file of a guest that runs."""
    now = state(host, each.domid)
    worked = now.info.cpu_seconds if now.info else 0.0
    if not (now.running and worked):
        why = f"it was unpaused, and does not run after {plan.proof:g} s ({now}; "
        why += f"its vcpus ran for {worked:g} s)"
        return Outcome(each.guest.name, How.FAILED, f"{why}; its save file is {each.guest.ran}")
    try:
        each.guest.ran.unlink()
    except OSError as error:
        why = f"it runs, and its save file {each.guest.ran} cannot be removed: {error.strerror}"
        return Outcome(each.guest.name, How.FAILED, why)
    return Outcome(each.guest.name, How.RESTORED, f"as domain {each.domid}")
