"""The order of acts, their undo, and the point of no return.

An undo is registered before its act and may run although the act never happened, so undos are
acts that may be repeated.  When an operation fails they run in reverse; what they achieved
decides the error: `RolledBack` if all went well, `Stranded` if one did not.  After the commit
nothing is taken back, what is to follow is done all the same, and the error is `PastReturn`.  An
error met before the first undo was registered passes through as it is, since nothing had been
touched.

Where another host passes the point of no return, nobody here can tell for a while.  What fails
then is `OutcomeUnknown`: neither the way back is gone nor the way on, until somebody has looked.

All of it is written to the operation's file first, so that `recover` can do the same for a process
that was killed, by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from xenqemu.errors import (
    Cancelled,
    HostError,
    HostTimeout,
    OperationError,
    OutcomeUnknown,
    PastReturn,
    RolledBack,
    Stranded,
)
from xenqemu.host.domain import Host
from xenqemu.host.hypervisor import MaySuspendYet, RunState
from xenqemu.host.ledger import About, Entry, Found
from xenqemu.host.policy import Attention, Deadline, attended
from xenqemu.host.precopy import Round
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved
from xenqemu.operations.steps import Commit, Overtaken, Step
from xenqemu.operations.story import CERTAIN, COMMITTED, Role, Story

MOVING = {"migration", "reception"}
"""Two operations that a guest which moves within one host is in at once, as two domains."""


def begin(host: Host, about: About) -> Entry:
    """Claim a guest for a new operation and return its file, for a `Journal`.

    Raises `HostError` if another operation on that guest goes on, or was left unfinished.  One that
    only looks out for a late guest need not be finished first, as long as there is nothing to see.
    """

    def harmless(other: Found) -> bool:
        if other.busy:
            return {about.verb, other.about.verb} == MOVING
        return Story.of(other).only_watches and not _suspended(host, other.about.domid)

    return host.ledger.begin(about, harmless)


class Journal:
    """The record of one operation on one guest; use as a context manager around all of it.

    `entry` is its file, which stays if anything is left to be done, and is removed if not.
    `timeout` is how many seconds all of it may take, up to the point of no return.
    """

    def __init__(
        self,
        host: Host,
        entry: Entry,
        observe: Observer = unobserved,
        timeout: float = math.inf,
        story: Story | None = None,
    ) -> None:
        self._host = host
        self._entry = entry
        self._observe = observe
        self._timeout = timeout
        self._story = story or Story()
        self._deadline = Deadline(math.inf)
        self._phase = Phase.CHECK
        self._heard = ""
        self._attention = ExitStack()

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Run the body as `phase`, told to the observer."""
        self._phase = phase
        self._write({"phase": phase.value})
        self._observe(Event(phase, Kind.STARTED))
        self._check()
        try:
            yield
        except BaseException as error:
            self._tell(Event(phase, Kind.FAILED, text=_words(error)), error)
            raise
        self._observe(Event(phase, Kind.DONE))

    def progress(self, done: int, total: int) -> None:
        """Tell how many bytes of the present phase are done; raise if the operation is to end."""
        self._heard = f"{done} of {total} bytes were done"
        self._observe(Event(self._phase, Kind.PROGRESS, done, total))
        self._check()

    def round(self, done: Round) -> None:
        """Tell that a round of a live save is over; raise if the operation is to end."""
        self._observe(Event(self._phase, Kind.ROUND, round=done))
        self._check()

    def note(self, text: str) -> None:
        """Tell people something that they may want to know."""
        self._observe(Event(self._phase, Kind.NOTE, text=text))

    @contextmanager
    def amid(self, phase: Phase) -> Iterator[None]:
        """Run the body as `phase` in the midst of another one, which goes on after it."""
        outer = self._phase
        with self.phase(phase):
            yield
        self._phase = outer
        self._write({"phase": outer.value})

    def undo(self, step: Step) -> int:
        """Register what takes back what is about to be done; return its number."""
        return self._register(Role.UNDO, step)

    def leaving(self, step: Step) -> int:
        """Register what clears away what is left if it fails; return its number."""
        return self._register(Role.LEAVING, step)

    def take_back(self, number: int) -> None:
        """Run one undo now, because the operation is meant to; it stays registered if it fails."""
        self._story.steps[number].step.perform(self._host)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Forget a step: there is no need for it any more."""
        self._write({"done": number})

    def commit(self, act: Callable[[], None], commit: Commit) -> None:
        """Pass the point of no return by `act`; if that raises, it is asked whether it was passed.

        A rename whose answer was lost, or that Ctrl-C came right after, has been done.
        """
        self.foresee(commit)
        try:
            act()
        except BaseException as error:
            self._see_whether_passed(commit, error)
            raise
        self._commit()

    def doubt(self, commit: Commit, what: str) -> None:
        """Begin an act of which nobody here can tell whether it passes the point of no return.

        `what` tells people where both copies are.  It lasts until `resolve` says how it ended.
        """
        self.foresee(commit)
        self._write({"doubt": what})

    def resolve(self, *, passed: bool) -> None:
        """End the doubt: the point of no return was passed, or the guest is as before."""
        if passed:
            self._commit()
        else:
            self._story.take(CERTAIN)
            self._entry.write(CERTAIN)

    @property
    def committed(self) -> bool:
        """Whether the point of no return was passed."""
        return self._story.committed

    @property
    def undone(self) -> bool:
        """Whether nothing is left to be taken back of what was done, nor ever was to be kept."""
        story = self._story
        return not (story.committed or story.doubt or story.numbers(Role.UNDO))

    def foresee(self, commit: Commit) -> None:
        """Note a point that a killed process may have passed; in this one, nothing changes."""
        self._write({"commit": commit.line()})

    def finish(self) -> None:
        """Do what follows the point of no return."""
        for number in self._story.numbers(Role.FINISH):
            self.take_back(number)

    def settle(self, first: BaseException) -> list[str]:
        """Undo all that is left, last first, or finish, and clear away what is left of drafts.

        Returns what could not be done to the guest; what gets in the way but changes nothing for
        it is noted at `first`.  In doubt, nothing is done.
        """
        if self._story.doubt:
            self._entry.unfinished = True
            return []
        notes = self._put_back(first)
        self._clear_away(first)
        return notes

    def _put_back(self, first: BaseException) -> list[str]:
        role = Role.FINISH if self._story.committed else Role.UNDO
        notes = [self._settled(number, first) for number in self._story.numbers(role)]
        return [note for note in notes if note]

    def _clear_away(self, first: BaseException) -> None:
        """Remove what is left of drafts; what cannot be removed now stays to be done."""
        for number in self._story.numbers(Role.LEAVING):
            note = self._settled(number, first)
            if note:
                first.add_note(note)

    def recover(self, cause: HostError, *, moved: bool | None = None) -> list[str]:
        """Do for a process that was killed what it would have done on an error; as `settle`.

        A guest that has not suspended by now is not waited for once more.  `moved` ends a doubt:
        the guest is the other copy, or not.
        """
        if self._story.doubt:
            if moved is None:
                self._entry.unfinished = True
                return [self._story.doubt]
            self.resolve(passed=moved)
        commit = self._story.commit
        if commit and not self._story.committed:
            self._see_whether_passed(commit, cause)
        notes = self._put_back(cause)
        self._entry.unfinished &= bool(notes)
        self._clear_away(cause)
        return notes

    def __enter__(self) -> Self:
        self._deadline = Deadline.after(self._timeout)
        self._attention.enter_context(attended(Attention(self._check, self._deadline)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._attention.close()
        if error is None:
            error = _attempt(self._entry.close)
            if error is None:
                return
        notes = self.settle(error)
        self._attempt(self._entry.close, "forget of it", error)
        if not self._story.touched:
            raise error
        outcome = self._outcome(error, notes)
        for note in notes:
            outcome.add_note(note)
        if isinstance(error, Exception):
            raise outcome from error
        error.add_note(str(outcome))
        raise error  # Ctrl-C goes on as what it is, and says what it left

    def _commit(self) -> None:
        self._story.take(COMMITTED)
        self._attention.close()
        self._entry.write(COMMITTED)

    def _register(self, role: Role, step: Step) -> int:
        number = self._story.next_number
        self._write({"register": number, "role": role.value, "step": step.line()})
        return number

    def _write(self, line: Mapping[str, object]) -> None:
        self._entry.write(line)
        self._story.take(line)

    def _see_whether_passed(self, commit: Commit, first: BaseException) -> None:
        """Ask whether the point of no return was passed; who cannot be told puts the guest back.

        It is noted: when somebody asks again, the record may have been moved away.
        """
        passed = False

        def ask() -> None:
            nonlocal passed
            passed = commit.passed(self._host)

        self._attempt(ask, "see how far it came", first)
        if passed:
            self._story.take(COMMITTED)
            self._attempt(lambda: self._entry.write(COMMITTED), "note it", first)

    def _settled(self, number: int, first: BaseException) -> str:
        """Do a step because the operation failed; return what to say if it could not be done."""
        step = self._story.steps[number].step
        self._tell(Event(Phase.UNDO, Kind.STARTED, text=step.what), first)
        error = _attempt(lambda: step.perform(self._host))
        if error is None:
            self._tell(Event(Phase.UNDO, Kind.DONE, text=step.what), first)
            self._attempt(lambda: self.drop(number), "note it", first)
            return ""
        self._tell(Event(Phase.UNDO, Kind.FAILED, text=_words(error)), first)
        self._entry.unfinished |= not isinstance(error, Overtaken)
        if isinstance(error, MaySuspendYet):
            first.add_note(_words(error))
            return ""
        return f"could not {step.what}: {_words(error)}"

    @staticmethod
    def _attempt(act: Callable[[], None], what: str, first: BaseException) -> bool:
        """Do what may fail without harm to the guest, which is then noted at `first`."""
        error = _attempt(act)
        if error is not None:
            first.add_note(f"could not {what}: {_words(error)}")
        return error is None

    def _check(self) -> None:
        """Raise if somebody wants the operation cancelled, or its time is over."""
        if self._story.committed or self._story.doubt:
            return
        if self._entry.cancelled:
            raise Cancelled(f"cancelled{self._last_heard()}")
        if self._deadline.passed:
            raise HostTimeout(
                f"all of it was to take {self._timeout:g} s at most{self._last_heard()}"
            )

    def _last_heard(self) -> str:
        return f": {self._heard}" if self._heard else ""

    def _tell(self, event: Event, first: BaseException) -> None:
        """Tell the observer of a failure; its own is noted at `first`, and keeps no undo away.

        Who watches is often gone by then: a terminal that hung up, a pipe that nobody reads.
        """
        if not self._attempt(lambda: self._observe(event), "tell of it", first):
            self._observe = unobserved

    def _outcome(self, error: BaseException, notes: list[str]) -> OperationError:
        phase = self._phase.value
        why = f"{self._entry.about.title} failed ({phase}): {_words(error)}"
        if self._story.doubt:
            return OutcomeUnknown(f"{why}; {self._story.doubt}", phase)
        left = "; ".join(f"{n}. {note}" for n, note in enumerate(notes, 1))
        if self._story.committed:
            rest = f"; left to do: {left}" if notes else ""
            return PastReturn(f"{why}; {self._story.meaning}{rest}", phase)
        before = "the guest is{} as it was" if self._entry.about.domid else "it is{} undone"
        if notes:
            return Stranded(f"{why}; {before.format(' not')}, left to do: {left}", phase)
        return RolledBack(f"{why}; {before.format('')}", phase)


def _suspended(host: Host, domid: int) -> bool:
    info = host.hypervisor.info(domid)
    return info is not None and info.run_state is RunState.SUSPENDED


def _attempt(act: Callable[[], None]) -> BaseException | None:
    """Do `act` and return what it raised: what comes after it must be done in any case."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  Ctrl-C must not keep the other undos away
        return error
    return None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
