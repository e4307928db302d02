"""Restore all guests of a host after it has booted, in order.

A save file is removed once its guest has run for a while.  When a guest is restored its save file
is renamed, so that nobody restores it a second time: the guest has written to its disks since.
Each guest is checked after all of them were restored; one that comes back paused is not seen to
run, and keeps its renamed save file until a later restore-all sees it run, or it is saved again.

Of several save files of one guest only its own is restored (`saved_guests.not_restored`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import Forbidden, HostError, PastReturn, XenqemuError
from xenqemu.host.domain_state import find, state
from xenqemu.host.protocol import Host
from xenqemu.operations.events import Event, Kind
from xenqemu.operations.options import RestoreOptions
from xenqemu.operations.outcome import GuestHooks, How, Outcome, OutcomeObserver, no_hooks, words
from xenqemu.operations.restore import restore
from xenqemu.operations.saved_guests import SavedGuest, already_run, not_restored, saved
from xenqemu.settings.xenqemu_conf import RestoreAll
from xenqemu.system.deadline import Deadline
from xenqemu.system.signals import allow_interrupts


@dataclass(frozen=True)
class _Running:
    """A guest that was restored, and is checked when `proof` has passed; `notes` are for people."""

    guest: SavedGuest
    domid: int
    proof: Deadline
    notes: tuple[str, ...] = ()


def restore_all(
    open_host: Callable[[], Host],
    folder: Path,
    plan: RestoreAll,
    observe: OutcomeObserver,
    *,
    options: RestoreOptions = RestoreOptions(),
    hooks: GuestHooks = no_hooks,
) -> None:
    """Restore all guests whose save files are in `folder`, as `plan` says.

    `observe` is called with each outcome.  One that fails does not stop the others, and keeps its
    save file.  `options` are those of each restore, and `hooks` are run for it.
    """
    with open_host() as host:
        found = saved(folder, plan.first)
        left = dict(not_restored(found))
        chosen = [guest for guest in found if guest not in left]
        for guest, better in left.items():
            observe(_left(guest, better))
        running = list(_run_before(host, folder, chosen, plan, observe))
        for guest in chosen:
            notes: list[str] = []
            try:
                with hooks("restore", file=str(guest.path)):
                    done = restore(
                        host,
                        guest.path,
                        options,
                        before_run=guest.mark_as_run,
                        observe=_noting(notes),
                    )
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
                proof = Deadline.after(plan.proof)
                running.append(_Running(guest, done.domid, proof, tuple(notes)))
        allow_interrupts()  # a guest that was not seen to run keeps its save file
        for each in running:
            time.sleep(each.proof.left)
            observe(_proved(host, each, plan))


def _noting(notes: list[str]) -> Callable[[Event], None]:
    """Return an observer that keeps what is said for people."""

    def observe(event: Event) -> None:
        if event.kind is Kind.NOTE:
            notes.append(event.text)

    return observe


def _left(guest: SavedGuest, better: SavedGuest | None) -> Outcome:
    """Return the outcome for a save file that is not restored, but perhaps a `better` one.

    Another guest that was saved under the same name has no other copy: it is not only left.
    """
    if better is None:
        text = f"{guest.path} is a save of {guest.name}, and was not made by save-all"
        return Outcome(guest.decoded, How.LEFT, text)
    if guest.by_name and guest.owner.uuid != better.owner.uuid:
        text = f"its save file is {guest.path}, but that of another guest of this name is restored"
        return Outcome(guest.decoded, How.FAILED, f"{text}, {better.path}")
    age = "a newer" if guest.owner.saved > better.owner.saved else "an older"
    text = f"{guest.path} is {age} save of {better.name}; {better.path} is restored"
    return Outcome(guest.decoded, How.LEFT, text)


def _renamed_back(guest: SavedGuest) -> str:
    """Rename a save file back; return where it is, for people."""
    try:
        guest.roll_back()
    except OSError as error:
        return f"its save file is {guest.ran}, which cannot be renamed back: {error.strerror}"
    return f"its save file is {guest.path}"


def _run_before(
    host: Host,
    folder: Path,
    chosen: list[SavedGuest],
    plan: RestoreAll,
    observe: OutcomeObserver,
) -> Iterator[_Running]:
    """Yield the guests that an earlier restore-all restored, and that were not seen to run then.

    Those that are gone are reported, unless a newer save file of theirs is restored now.
    """
    newer = {guest.owner.uuid for guest in chosen if guest.owner.uuid}
    for guest in already_run(folder):
        try:
            there = find(host, guest.name)
            if guest.owner.uuid not in ("", there.uuid.lower()):
                raise HostError(f"domain {there.domid} is another one of this name")
            yield _Running(guest, there.domid, Deadline.after(plan.proof))
        except HostError as error:
            if guest.owner.uuid not in newer:
                why = f"it was restored, and was not seen to run ({error})"
                observe(Outcome(guest.name, How.FAILED, f"{why}; its save file is {guest.ran}"))


def _proved(host: Host, each: _Running, plan: RestoreAll) -> Outcome:
    """Remove the save file of a guest that runs."""
    guest, now = each.guest, state(host, each.domid)
    became = "; ".join([f"as domain {each.domid}", *each.notes])
    if now.paused and guest.owner.paused:
        kept = f"paused, as it was; its save file is {guest.ran} until it is seen to run"
        return Outcome(guest.name, How.RESTORED, f"{became}; {kept}")
    worked = now.info.cpu_seconds if now.info else 0.0
    if not (now.running and worked):
        why = f"it was unpaused, and does not run after {plan.proof:g} s ({now}; "
        why += f"its vcpus ran for {worked:g} s)"
        return Outcome(guest.name, How.FAILED, f"{why}; its save file is {guest.ran}")
    try:
        guest.ran.unlink()
    except OSError as error:
        why = f"it runs, and its save file {guest.ran} cannot be removed: {error.strerror}"
        return Outcome(guest.name, How.FAILED, why)
    return Outcome(guest.name, How.RESTORED, became)
