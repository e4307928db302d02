"""The order of acts, their undo, and the point of no return.

An undo is registered before its act and may run although the act never happened, so undos are
acts that may be repeated.  When an operation fails they run in reverse; what they achieved
decides the error: `RolledBack` if all went well, `Stranded` if one did not.  After `commit`
nothing is taken back: the error is `PastReturn`.  An error met before the first undo was
registered passes through as it is, since nothing had been touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from xenqemu.errors import OperationError, PastReturn, RolledBack, Stranded
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved


@dataclass(frozen=True, eq=False)
class Undo:
    """A way back: `what` completes the sentence "could not …"."""

    what: str
    act: Callable[[], None]


class Journal:
    """The record of one operation on one guest; use as a context manager around all of it."""

    def __init__(self, verb: str, guest: str, observe: Observer = unobserved) -> None:
        self._title = f"{verb} of {guest}"
        self._observe = observe
        self._undos: list[Undo] = []
        self._touched = False
        self._committed = ""
        self._phase = Phase.CHECK

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Run the body as `phase`, told to the observer."""
        self._phase = phase
        self._observe(Event(phase, Kind.STARTED))
        try:
            yield
        except BaseException as error:
            self._tell(Event(phase, Kind.FAILED, text=_words(error)), error)
            raise
        self._observe(Event(phase, Kind.DONE))

    def progress(self, done: int, total: int) -> None:
        """Tell how many bytes of the present phase are done."""
        self._observe(Event(self._phase, Kind.PROGRESS, done, total))

    def undo(self, what: str, act: Callable[[], None]) -> Undo:
        """Register `act`, which takes back what is about to be done."""
        undo = Undo(what, act)
        self._touched = True
        self._undos.append(undo)
        return undo

    def take_back(self, undo: Undo) -> None:
        """Run one undo now, because the operation is meant to; it stays registered if it fails."""
        undo.act()
        self._undos.remove(undo)

    def commit(self, meaning: str) -> None:
        """Pass the point of no return; `meaning` says what is the guest from now on."""
        self._committed = meaning
        self._undos.clear()

    def commit_by(self, act: Callable[[], None], done: Callable[[], bool], meaning: str) -> None:
        """Pass the point of no return by `act`; if that raises, `done` looks whether it was done.

        A rename whose answer was lost, or that Ctrl-C came right after, has been done.
        """
        try:
            act()
            self.commit(meaning)
        except BaseException:
            if done():
                self.commit(meaning)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or not self._touched:
            return
        notes = self._take_all_back(error)
        outcome = self._outcome(error, notes)
        for note in notes:
            outcome.add_note(note)
        if isinstance(error, Exception):
            raise outcome from error
        error.add_note(str(outcome))  # Ctrl-C goes on as what it is, and says what it left

    def _take_all_back(self, first: BaseException) -> list[str]:
        """Run all undos that are left, last first; return what could not be done."""
        notes = []
        while self._undos:
            undo = self._undos.pop()
            self._tell(Event(Phase.UNDO, Kind.STARTED), first)
            error = _attempt(undo.act)
            if error is None:
                self._tell(Event(Phase.UNDO, Kind.DONE), first)
            else:
                notes.append(f"could not {undo.what}: {_words(error)}")
                self._tell(Event(Phase.UNDO, Kind.FAILED, text=_words(error)), first)
        return notes

    def _tell(self, event: Event, first: BaseException) -> None:
        """Tell the observer of a failure; its own is noted at `first`, and keeps no undo away.

        Who watches is often gone by then: a terminal that hung up, a pipe that nobody reads.
        """
        error = _attempt(lambda: self._observe(event))
        if error is not None:
            first.add_note(f"could not tell of it: {_words(error)}")
            self._observe = unobserved

    def _outcome(self, error: BaseException, notes: list[str]) -> OperationError:
        phase = self._phase.value
        why = f"{self._title} failed ({phase}): {_words(error)}"
        if self._committed:
            return PastReturn(f"{why}; {self._committed}", phase)
        if notes:
            left = "; ".join(f"{n}. {note}" for n, note in enumerate(notes, 1))
            return Stranded(f"{why}; the guest is not as it was, left to do: {left}", phase)
        return RolledBack(f"{why}; the guest is as it was", phase)


def _attempt(act: Callable[[], None]) -> BaseException | None:
    """Do `act` and return what it raised: what comes after it must be done in any case."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  Ctrl-C must not keep the other undos away
        return error
    return None


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
