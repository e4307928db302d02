"""What the error of a failed operation means for its guest, and how it is logged."""

from __future__ import annotations

from collections.abc import Sequence

from xenqemu.errors import (
    Cancelled,
    OperationError,
    OutcomeUnknown,
    PastReturn,
    RolledBack,
    Stranded,
    in_words,
)
from xenqemu.host.ended_operation import Result
from xenqemu.operations.events import Phase
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.log_state import LogState


def outcome_of(
    state: LogState, about: About, phase: Phase, error: BaseException, left: Sequence[str]
) -> OperationError:
    """Return the error for an operation that failed in `phase` by `error`.

    `left` says what could not be done to the guest, in the order in which it is to be done.
    """
    where = phase.value
    why = f"{about.title} failed ({where}): {in_words(error)}"
    if state.doubt:
        return OutcomeUnknown(f"{why}; {state.doubt}", where)
    to_do = "; ".join(f"{number}. {each}" for number, each in enumerate(left, 1))
    if state.committed:
        rest = f"; left to do: {to_do}" if left else ""
        return PastReturn(f"{why}; {state.meaning}{rest}", where)
    before = "the guest is{} as it was" if about.domid else "it is{} rolled back"
    if left:
        return Stranded(f"{why}; {before.format(' not')}, left to do: {to_do}", where)
    return RolledBack(f"{why}; {before.format('')}", where)


def result_of(failure: BaseException | None) -> Result:
    """Return how an operation ended that raised `failure`, or nothing."""
    interrupted = failure is not None and not isinstance(failure, Exception)
    outcome = failure.__cause__ if failure is not None and interrupted else failure
    for kind, result in (
        (OutcomeUnknown, Result.IN_DOUBT),
        (PastReturn, Result.PAST_RETURN),
        (Stranded, Result.STRANDED),
    ):
        if isinstance(outcome, kind):
            return result
    if failure is None:
        return Result.DONE
    if interrupted:
        return Result.INTERRUPTED
    if isinstance(failure, Cancelled) or isinstance(failure.__cause__, Cancelled):
        return Result.CANCELLED
    return Result.ROLLED_BACK if isinstance(failure, RolledBack) else Result.REFUSED
