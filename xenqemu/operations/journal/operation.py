"""One operation from its claim to its end: phases, progress, cancelling, and its error.

What was done is on its `Account`; how much of that could be taken back decides the error:
`RolledBack` if all of it, `Stranded` if not, `PastReturn` behind the point of no return,
`OutcomeUnknown` where nobody here can tell whether that was passed.  An error met before the first
undo was registered passes through as it is, since nothing had been touched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from xenqemu.errors import (
    Cancelled,
    HostTimeout,
    OperationError,
    OutcomeUnknown,
    PastReturn,
    RolledBack,
    Stranded,
)
from xenqemu.host.precopy import Iteration
from xenqemu.host.protocol import Host, RunState
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved
from xenqemu.operations.journal.account import Account, attempt, in_words
from xenqemu.operations.journal.log import About, Entry, Found, Ledger
from xenqemu.operations.journal.story import Story
from xenqemu.system.cancellation import Attention, attended
from xenqemu.system.deadline import Deadline

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

    return Ledger(host.journals).begin(about, harmless)


class Journal(Account):
    """The course of one operation; use as a context manager around all of it.

    `timeout` is how many seconds all of it may take, up to the point of no return.
    """

    def __init__(
        self, host: Host, entry: Entry, observe: Observer = unobserved, timeout: float = math.inf
    ) -> None:
        super().__init__(host, entry, observe)
        self._timeout = timeout
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
            self._tell(Event(phase, Kind.FAILED, text=in_words(error)), error)
            raise
        self._observe(Event(phase, Kind.DONE))

    def progress(self, done: int, total: int) -> None:
        """Tell how many bytes of the present phase are done; raise if the operation is to end."""
        self._heard = f"{done} of {total} bytes were done"
        self._observe(Event(self._phase, Kind.PROGRESS, done, total))
        self._check()

    def iteration(self, done: Iteration) -> None:
        """Tell that an iteration of a live save is over; raise if the operation is to end."""
        self._observe(Event(self._phase, Kind.ITERATION, iteration=done))
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
            error = attempt(self._entry.close)
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
        super()._commit()
        self._attention.close()  # it cannot be cancelled any more

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

    def _outcome(self, error: BaseException, notes: list[str]) -> OperationError:
        phase = self._phase.value
        why = f"{self._entry.about.title} failed ({phase}): {in_words(error)}"
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
