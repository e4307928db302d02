"""All guests of a host before it shuts down: each is saved, or shut down where that cannot be.

Several are saved at once, each on a connection of its own, all within one deadline.  Guests that
are not to be saved are asked to shut down first, so that they do it meanwhile; those whose save
failed, and that are running as before, are asked then.  One whose save a hook forbids is left
alone.  A paused guest is saved where it need not answer, and comes back paused; any other one can
neither be saved nor shut down: it ends with the host, unless it is unpaused before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from threading import Lock

from xenqemu.errors import Forbidden, HostError, HostTimeout, PastReturn, XenqemuError
from xenqemu.host.domain import Domain, RunState
from xenqemu.host.domain_state import DomainState, identity, state
from xenqemu.host.protocol import Host
from xenqemu.operations.at_once import at_once
from xenqemu.operations.options import SaveOptions
from xenqemu.operations.outcome import GuestHooks, How, Outcome, OutcomeObserver, no_hooks, words
from xenqemu.operations.save import save as save_domain
from xenqemu.operations.saved_guests import SavedGuest, place_for
from xenqemu.settings.choice import Choice
from xenqemu.settings.xenqemu_conf import SaveAll
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.deadline import Deadline

ENDED = (RunState.SHUTDOWN, RunState.CRASHED, RunState.DYING)
"""Of guests that have ended, and of which nothing can be saved."""


def save_all(
    open_host: Callable[[], Host],
    plan: SaveAll,
    own: Mapping[str, Choice],
    observe: OutcomeObserver,
    *,
    options: SaveOptions = SaveOptions(),
    hooks: GuestHooks = no_hooks,
) -> None:
    """Save or shut down all guests as `plan` says; `own` is what their own files say, by name.

    `observe` is called with each outcome.  One that fails does not stop the others.  `options` are
    those of each save, and `hooks` are run for it.  Ctrl-C rolls back the saves that are running,
    and is raised again.  No save file of another guest is replaced.
    """
    deadline = Deadline.after(plan.deadline)
    with open_host() as host:
        guests = _guests(host)
        choices = {guest: _choice(guest.name, plan, own) for guest in guests}
        stopping = _Stopping(host, observe)
        for guest in guests:
            if choices[guest] is Choice.LEAVE:
                observe(Outcome(guest.name, How.LEFT))
            elif choices[guest] is Choice.SHUT_DOWN:
                stopping.ask(guest)

        places = _Places(plan.folder)
        turns = {guest.name: Lock() for guest in guests}  # two of one name are two operations

        def save(guest: Domain) -> str:
            place = places.of(guest)
            with (
                turns[guest.name],
                _opened(open_host, plan, deadline) as mine,
                hooks("save", domid=guest.domid, name=guest.name, file=str(place.path)),
            ):
                save_domain(mine, guest, place.path, replace(options, timeout=deadline.left))
            return f"to {place.path}{_older_dropped(place)}"

        def note(guest: Domain, done: Future[str]) -> None:
            try:
                observe(Outcome(guest.name, How.SAVED, done.result()))
            except Forbidden as error:
                observe(Outcome(guest.name, How.FORBIDDEN, f"{words(error)}; it is left alone"))
            except PastReturn as error:
                observe(Outcome(guest.name, How.FAILED, words(error)))
            except (XenqemuError, OSError) as error:
                stopping.ask(guest, f"it could not be saved: {words(error)}")

        saving = [guest for guest in guests if choices[guest] is Choice.SAVE]
        at_once(host, plan.parallel, saving, save, note)
        stopping.finish(plan.shutdown_deadline)


def _guests(host: Host) -> list[Domain]:
    """Return all guests but those that are known to have ended."""
    found = [state(host, domid) for domid in host.domids()]
    return [_identity(host, now) for now in found if not _ended(now)]


def _ended(now: DomainState) -> bool:
    if now.info:
        return now.info.run_state in ENDED
    return not now.trouble


def _identity(host: Host, now: DomainState) -> Domain:
    """Return who a guest is, by its config where xenstore does not say."""
    try:
        domain = identity(host, now.domid)
    except HostError:
        return _configured(host, now)
    return domain if domain.name else _configured(host, now)


def _configured(host: Host, now: DomainState) -> Domain:
    """Return who a guest is by its config, or by what is known already if that cannot be read."""
    try:
        config = host.config(now.domid)
        return Domain(now.domid, config.uuid, config.name, config.type)
    except XenqemuError:
        return Domain(now.domid, now.uuid, now.name or str(now.domid), "")


def _choice(name: str, plan: SaveAll, own: Mapping[str, Choice]) -> Choice:
    if name in plan.leave:
        return Choice.LEAVE
    if name in plan.shut_down:
        return Choice.SHUT_DOWN
    choice = own.get(name, plan.others)
    return Choice.SHUT_DOWN if choice is Choice.SAVE and not plan.save else choice


def _opened(open_host: Callable[[], Host], plan: SaveAll, deadline: Deadline) -> Host:
    """Return a host to save a guest from, once there is a folder for that.

    Raises `HostTimeout` after the deadline.
    """
    if deadline.passed:
        raise HostTimeout(f"the deadline of {plan.deadline:g} s for all domains has passed")
    plan.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open_host()


class _Places:
    """The places for save files in a folder; no two guests have the same, at once or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = Lock()
        self._taken: list[str] = []

    def of(self, guest: Domain) -> SavedGuest:
        """Return the place for a guest's save file; raises as `place_for`."""
        with self._lock:
            place = place_for(self._folder, guest, self._taken)
            self._taken.append(place.file)
        return place


def _older_dropped(place: SavedGuest) -> str:
    """Remove an older save file of a guest that is saved; return what to say if that fails."""
    try:
        place.drop_older()
    except OSError as error:
        return f"; an older one, {place.ran}, cannot be removed: {error.strerror}"
    return ""


class _Stopping:
    """Guests that were asked to shut down, each with the reason if that was not the plan."""

    def __init__(self, host: Host, observe: OutcomeObserver) -> None:
        self._host = host
        self._observe = observe
        self._why: dict[Domain, str] = {}

    def ask(self, guest: Domain, why: str = "") -> None:
        """Ask a guest to shut down, if it runs."""
        try:
            if not self._runs(guest):
                now = state(self._host, guest.domid)
                hint = "; unpause it, or it ends with the host" if now.paused else ""
                raise HostError(f"it does not run ({now}){hint}")
            self._host.shut_down(guest.domid)
        except HostError as error:
            reasons = filter(None, (why, f"it could not be shut down: {words(error)}"))
            self._observe(Outcome(guest.name, How.FAILED, "; ".join(reasons)))
        else:
            self._why[guest] = why

    def finish(self, seconds: float) -> None:
        """Wait until all that were asked have shut down."""

        def ended(pause: float) -> bool:
            for guest in [guest for guest in self._why if not self._runs(guest)]:
                self._observe(Outcome(guest.name, How.SHUT_DOWN, self._why.pop(guest)))
            if self._why:
                time.sleep(pause)
            return not self._why

        wait_cancellable(ended, seconds)
        for guest, why in self._why.items():
            reasons = filter(None, (why, f"it has not shut down within {seconds:g} s"))
            self._observe(Outcome(guest.name, How.FAILED, "; ".join(reasons)))

    def _runs(self, guest: Domain) -> bool:
        info = self._host.hypervisor.info(guest.domid)
        if info is None or not guest.matches(info):
            return False
        return info.run_state is RunState.RUNNING
