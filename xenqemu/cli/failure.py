"""A failure as the user hears of it: lines on standard error, JSON for programs, an exit code."""

from __future__ import annotations

from xenqemu.cli.terminal import as_json as print_json
from xenqemu.cli.terminal import complain
from xenqemu.errors import (
    FormatError,
    NotSaved,
    OperationError,
    PastReturn,
    Stranded,
    UsageError,
    XenqemuError,
    in_words,
    notes_of,
)

INTERRUPTED = 130
"""The exit code of Ctrl-C or SIGTERM before the point of no return."""


def tell_failure(error: BaseException, *, as_json: bool = False) -> int:
    """Tell of an error and return the exit code for it; with `as_json` programs hear of it too."""
    notes = notes_of(error)
    if isinstance(error, KeyboardInterrupt):
        complain("; ".join([in_words(error), *notes]))
    elif isinstance(error, UsageError):  # its lines are ours, and the user's words
        complain(*str(error).split("\n"), *notes)
    elif isinstance(error, OSError):
        complain(in_words(error))
    else:
        complain(str(error), *notes)
    if as_json and not isinstance(error, NotSaved):  # which is an answer, and was given
        print_json({"error": error_fields(error)}, indent=None)
    return exit_code(error)


def exit_code(error: BaseException) -> int:
    """Return the exit code of the command that an error ended; see `xenqemu.errors`."""
    if isinstance(error, KeyboardInterrupt):
        outcome = error.__cause__
        return outcome.exit_code if isinstance(outcome, (PastReturn, Stranded)) else INTERRUPTED
    return error.exit_code if isinstance(error, XenqemuError) else XenqemuError.exit_code


def error_fields(error: BaseException) -> dict[str, object]:
    """Return an error for a program: what it is, where it was met, and what to say of it.

    `cause` is the error that made an operation fail; `notes` are further sentences.
    """
    message, *_usage = in_words(error).split("\n")
    fields: dict[str, object] = {
        "class": type(error).__name__,
        "exit_code": exit_code(error),
        "message": message,
        "notes": [*notes_of(error)],
    }
    outcome = error.__cause__ if isinstance(error, KeyboardInterrupt) else error
    if isinstance(outcome, OperationError):
        fields["phase"] = outcome.phase
        if isinstance(outcome.__cause__, Exception):
            fields["cause"] = error_fields(outcome.__cause__)
    if isinstance(error, FormatError):
        fields |= {"record": error.record, "offset": error.offset}
        fields |= {"expected": error.expected, "got": error.got}
    return fields
