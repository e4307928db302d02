"""What checks find of a guest before it is touched: all that refuses it, and all to be warned of.

A check is written once.  `xenqemu check` lists what the checks find, and the operations call the
same ones: there what refuses is raised, all of it in one error, and what warns is noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple, Self

from xenqemu.errors import Cancelled, Refused, XenqemuError, notes_of


class Severity(Enum):
    """What a finding means for the operation that was asked about, the worst first."""

    REFUSAL = "refused"
    WARNING = "warning"


class Finding(NamedTuple):
    """One thing that was found.

    `what` is a short key of the check; `hint` says what can be done, "" where the text does or
    nobody knows.  `error` is what a refusal is raised as.
    """

    severity: Severity
    what: str
    text: str
    hint: str = ""
    error: XenqemuError | None = None

    @classmethod
    def refusal(cls, what: str, error: XenqemuError) -> Self:
        """Return the finding that an error is; its notes are the hint."""
        return cls(Severity.REFUSAL, what, str(error), "; ".join(notes_of(error)), error)

    @classmethod
    def warning(cls, what: str, text: str, hint: str = "") -> Self:
        """Return a finding that forbids nothing."""
        return cls(Severity.WARNING, what, text, hint)

    def __str__(self) -> str:
        """One line for people, without the severity."""
        return f"{self.text}; {self.hint}" if self.hint else self.text


Found = Iterable[XenqemuError | Finding] | None
"""What a check finds: errors, which are refusals under its own key, or whole findings."""

Check = tuple[str, Callable[[], Found]]
"""The key of a check, and what yields what it finds, or raises that."""


def findings(checks: Iterable[Check]) -> Iterator[Finding]:
    """Yield what each of `checks` finds; a check that raises has found that, and is over.

    `Cancelled` is no finding: it is raised.
    """
    for what, check in checks:
        try:
            for each in check() or ():
                yield each if isinstance(each, Finding) else Finding.refusal(what, each)
        except Cancelled:
            raise
        except Refused as error:
            yield from (Finding.refusal(what, each) for each in error.reasons)
        except XenqemuError as error:
            yield Finding.refusal(what, error)


def refusals(found: Iterable[Finding]) -> list[XenqemuError]:
    """Return the errors of all findings that refuse."""
    return [each.error for each in found if each.error is not None]


def refusal_texts(found: Iterable[Finding]) -> Iterator[str]:
    """Yield the texts of all findings that refuse, with their hints."""
    return (str(each) for each in found if each.severity is Severity.REFUSAL)


def require(found: Iterable[Finding], cannot: str) -> list[Finding]:
    """Return the warnings; raise what refuses.

    One refusal is raised as it is, several as one `Refused`, whose summary begins with `cannot`.
    """
    every = list(found)
    refused = refusals(every)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        raise Refused(cannot, refused)
    return every
