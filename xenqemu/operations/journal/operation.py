"""One operation on one guest, from its claim to its end.

An undo is registered before its act; they run in reverse if the operation fails.  After the commit
nothing is undone, and the steps that follow it are performed.  Where another host commits, the
operation is in doubt for a while: nothing is done until its outcome is known.  All of it is logged
first, so that `recover` does the same for a process that was killed.

How much could be undone decides the error: `RolledBack` if all of it, `Stranded` if not,
`PastReturn` after the point of no return, `OutcomeUnknown` in doubt.  An error before the first
undo was registered is raised as it is, since nothing had been touched.

Signals that ask the process to end interrupt an operation up to the point of no return, and not
what rolls it back: they wait until it has ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Self

from xenqemu.errors import (
    Cancelled,
    HostError,
    HostTimeout,
    in_words,
)
from xenqemu.formats.typed_json import plain
from xenqemu.host.ended_operation import EndedOperation
from xenqemu.host.precopy import Iteration
from xenqemu.host.protocol import Host, SuspendPending
from xenqemu.operations.events import Event, Kind, Observer, Phase, Way, unobserved
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.harmless import is_harmless
from xenqemu.operations.journal.log import About, Found, Log
from xenqemu.operations.journal.outcome_error import outcome_of, result_of
from xenqemu.operations.journal.progress_file import ProgressFile
from xenqemu.operations.journal.steps import Commit, Overtaken, RemoveDraft, Step
from xenqemu.operations.stopwatch import Stopwatch
from xenqemu.system import retry
from xenqemu.system.cancellation import Cancellation, cancellable
from xenqemu.system.deadline import Deadline
from xenqemu.system.signals import allow_interrupts, hold_interrupts, signals_deferred


class Operation:
    """One operation; a context manager around all of it.

    `timeout` is its deadline in seconds, up to the point of no return.  `phases` are those that
    are done: name, when it began in Unix time, and seconds.
    """

    def __init__(
        self, host: Host, log: Log, observe: Observer = unobserved, timeout: float = math.inf
    ) -> None:
        self._watch = Stopwatch(observe)
        self.log = log
        self._host = host
        self.state = log.state
        self._observe: Observer = self._watch
        self._timeout = timeout
        self._deadline = Deadline.after(timeout)
        self._phase = Phase.CHECK
        self.phases: list[tuple[str, float, float]] = []
        self._heard = ""
        self._stoppable = False
        self._cancellation = ExitStack()
        self._signals = ExitStack()

    @classmethod
    def begin(
        cls, host: Host, about: About, observe: Observer = unobserved, timeout: float = math.inf
    ) -> Self:
        """Claim a guest for a new operation.

        Raises `HostError` if another one on that guest is running or unfinished.  One that only has
        to withdraw a suspend request may stay unfinished, if the guest is not suspended, and one
        that only has drafts to remove: perhaps nobody ever can.
        """

        def harmless(other: Found) -> bool:
            return is_harmless(host, about, other)

        allow_interrupts()
        retry.load()  # undos may repeat what they do
        log = Journals(host.journals).begin(about, harmless)
        return cls(host, log, ProgressFile(log, observe), timeout)

    def __enter__(self) -> Self:
        self._cancellation.enter_context(cancellable(Cancellation(self._check, self._deadline)))
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with self._signals:
            self._defer_signals()
            try:
                self._close(error)
            except BaseException as failure:
                self._record(failure)
                raise
            self._record(None)

    def _record(self, failure: BaseException | None) -> None:
        """Have the host keep what this operation was; where it cannot, a note says so."""
        about, watch = self.log.about, self._watch
        ended = EndedOperation(
            *(about.id, about.verb, about.domid, about.name, about.uuid, about.file),
            *(about.since, watch.seconds, result_of(failure), in_words(failure) if failure else ""),
            *(watch.size, watch.downtime, tuple(self.phases)),
        )
        error = _raised(lambda: self._host.records(ended))
        if error is not None:
            text = f"the operation is not in all logs and metrics: {in_words(error)}"
            self._notify(Event(Phase.RELEASE, Kind.NOTE, text=text), failure or error)

    def _close(self, error: BaseException | None) -> None:
        """Roll back or finish after an error, close the journal, and raise what the error means."""
        self._cancellation.close()
        hold_interrupts()
        error = error or _raised(self.log.close)
        if error is None:
            return
        notes = self._end(error)
        self._attempt(self.log.close, "remove its journal", error)
        if not self.state.touched:
            raise error
        outcome = outcome_of(self.state, self.log.about, self._phase, error, notes)
        for note in notes:
            outcome.add_note(note)
        if isinstance(error, Exception):
            raise outcome from error
        error.add_note(str(outcome))
        raise error from outcome  # Ctrl-C stays what it is, with the outcome as a note

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Run the body as `phase`, and report that to the observer."""
        self._phase = phase
        self.log.write({"phase": phase.value})
        self._observe(Event(phase, Kind.STARTED))
        self._check()
        began, start = time.time(), time.monotonic()
        try:
            yield
        except BaseException as error:
            self._notify(Event(phase, Kind.FAILED, text=in_words(error)), error)
            raise
        self.phases.append((phase.value, began, time.monotonic() - start))
        self._observe(Event(phase, Kind.DONE))

    @contextmanager
    def subphase(self, phase: Phase) -> Iterator[None]:
        """Run the body as `phase` within another one, which continues after it."""
        outer = self._phase
        with self.phase(phase):
            yield
        self._phase = outer
        self.log.write({"phase": outer.value})

    def progress(self, done: int, total: int) -> None:
        """Report how many bytes of this phase are done; raise if cancelled or too late."""
        self._heard = f": {done} of {total} bytes were done"
        self._observe(Event(self._phase, Kind.PROGRESS, done, total))
        self._check()

    def iteration(self, done: Iteration) -> None:
        """Report an iteration of a live save; raise if cancelled or too late."""
        self._observe(Event(self._phase, Kind.ITERATION, iteration=done))
        self._check()

    def live(self, way: Way, downtime: float) -> None:
        """Report how a guest was saved while it ran, and for how many seconds it did not."""
        self._observe(Event(self._phase, Kind.LIVE, way=way, downtime=downtime))

    def note(self, text: str) -> None:
        """Report a note for people."""
        self._observe(Event(self._phase, Kind.NOTE, text=text))

    def undo(self, step: Step) -> int:
        """Register what undoes what is about to be done; return its number."""
        self.log.write({"undo": plain(step)})
        return self.state.registered

    def cleanup(self, step: Step) -> int:
        """Register what removes leftovers if the operation fails; return its number."""
        self.log.write({"cleanup": plain(step)})
        return self.state.registered

    def perform(self, number: int) -> None:
        """Perform a step as part of the operation; it stays registered if it fails."""
        self.state.steps[number].perform(self._host)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Remove a step: it is no longer needed."""
        self.log.write({"done": number})

    def prepare_commit(self, commit: Commit) -> None:
        """Log a commit that a killed process may have passed; nothing else changes."""
        self.log.write({"commit": plain(commit)})

    def commit(self, act: Callable[[], None], commit: Commit) -> None:
        """Pass the point of no return by `act`; if that raises, ask whether it was passed.

        A rename whose answer was lost has been done.
        """
        self._defer_signals()
        self.prepare_commit(commit)
        try:
            act()
        except BaseException as error:
            self._ask_whether_passed(commit, error)
            raise
        self.resolve(passed=True)

    def doubt(self, commit: Commit, what: str, *, stoppable: bool = False) -> None:
        """Enter doubt: the next act passes the point of no return elsewhere, or not.

        `what` tells people where both copies are.  `resolve` ends the doubt.  Where whoever passes
        that point can still be stopped, this may be cancelled: the caller does so and resolves it.
        """
        self._stoppable = stoppable
        if not stoppable:
            self._defer_signals()
        self.prepare_commit(commit)
        self.log.write({"doubt": what})

    def resolve(self, *, passed: bool) -> None:
        """Log whether the point of no return was passed."""
        if passed and self._stoppable:
            self._defer_signals()
        line = {"committed": True} if passed else {"doubt": ""}
        self.state.take(line)  # true whether or not it can be written
        self.log.append(line)
        if passed:
            self._cancellation.close()  # it cannot be cancelled any more

    def finish(self) -> None:
        """Perform the steps that follow the point of no return."""
        for number in list(self.state.following):
            self.perform(number)

    def recover(
        self, cause: HostError, *, moved: bool | None = None, forget: bool = False
    ) -> list[str]:
        """Do for a process that was killed what it would have done on an error.

        A suspend request that was not withdrawn is not waited for again.  `moved` ends a doubt: the
        guest is the other copy, or not.  `forget` drops drafts that cannot be removed.  Returns
        what could not be done to the guest; other failures are notes of `cause`.
        """
        with signals_deferred():
            return self._recover(cause, moved=moved, forget=forget)

    def _recover(self, cause: HostError, *, moved: bool | None, forget: bool) -> list[str]:
        state = self.state
        if state.doubt and moved is not None:
            self.resolve(passed=moved)
        if state.commit and not (state.committed or state.doubt):
            self._ask_whether_passed(state.commit, cause)
        notes = self._end(cause, waited=True)
        if forget and state.only_removes:
            self._forget_drafts(cause)
        return [state.doubt] if state.doubt else notes

    def _defer_signals(self) -> None:
        """Let signals wait from now on until the operation has ended."""
        self._signals.enter_context(signals_deferred())

    def _forget_drafts(self, cause: HostError) -> None:
        """Drop the drafts that are left, and name them in notes of `cause`."""
        for number, step in list(self.state.cleanups.items()):
            if isinstance(step, RemoveDraft):
                self.drop(number)
                cause.add_note(f"{step.file} is forgotten: remove it by hand")
        self.log.unfinished = False

    def _end(self, cause: BaseException, *, waited: bool = False) -> list[str]:
        """Roll back, last step first, or finish, and do the cleanups.

        Returns as `recover`.  In doubt, nothing is done.
        """
        state = self.state
        if state.doubt:
            self.log.unfinished = True
            return []
        steps = list(state.following) if state.committed else list(reversed(state.undos))
        notes = [note for number in steps if (note := self._ended(number, cause))]
        if waited:
            self.log.unfinished &= bool(notes)
        for number in list(reversed(state.cleanups)):
            if note := self._ended(number, cause):
                cause.add_note(note)  # it stays registered
        return notes

    def _ended(self, number: int, cause: BaseException) -> str:
        """Perform a step because the operation failed; return what to report if that failed."""
        step = self.state.steps[number]
        self._notify(Event(Phase.UNDO, Kind.STARTED, text=step.text), cause)
        error = _raised(lambda: step.perform(self._host))
        if error is None:
            self._notify(Event(Phase.UNDO, Kind.DONE, text=step.text), cause)
            self._attempt(lambda: self.drop(number), "log it", cause)
            return ""
        self._notify(Event(Phase.UNDO, Kind.FAILED, text=in_words(error)), cause)
        self.log.unfinished |= not isinstance(error, Overtaken)
        if isinstance(error, SuspendPending):
            cause.add_note(in_words(error))
            return ""
        return f"could not {step.text}: {in_words(error)}"

    def _ask_whether_passed(self, commit: Commit, cause: BaseException) -> None:
        """Ask whether the point of no return was passed; if that fails, it was not.

        The answer is logged: later the save file may have been moved away.
        """
        passed = False
        try:
            passed = commit.question is not None and commit.question.passed(self._host)
        except BaseException as error:  # noqa: BLE001  roll back in any case
            cause.add_note(f"could not see whether it was committed: {in_words(error)}")
        if passed:
            self._attempt(lambda: self.resolve(passed=True), "log it", cause)

    def _check(self) -> None:
        """Raise if the operation was cancelled, or its deadline has passed."""
        if self.state.committed or (self.state.doubt and not self._stoppable):
            return
        if self.log.cancelled:
            raise Cancelled(f"cancelled{self._heard}")
        if self._deadline.passed:
            raise HostTimeout(
                f"the deadline of {self._timeout:g} s for all of it has passed{self._heard}"
            )

    @staticmethod
    def _attempt(act: Callable[[], None], what: str, cause: BaseException) -> bool:
        """Do what may fail without harm to the guest; a failure is added to `cause` as a note."""
        error = _raised(act)
        if error is not None:
            cause.add_note(f"could not {what}: {in_words(error)}")
        return error is None

    def _notify(self, event: Event, cause: BaseException) -> None:
        """Report to the observer after a failure; if that fails too, `cause` gets a note.

        An observer is often gone by then: a terminal that hung up, a pipe that nobody reads.
        """
        if not self._attempt(lambda: self._observe(event), "report it", cause):
            self._observe = unobserved


def _raised(act: Callable[[], None]) -> BaseException | None:
    """Do `act` and return what it raised."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  the other undos follow Ctrl-C too
        return error
    return None
