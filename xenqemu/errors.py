"""Every error that xenqemu raises on purpose, and the exit code of each.

::

    XenqemuError                        1   anything of ours
    ├── UsageError                     64   the request itself makes no sense
    ├── Cancelled                      14   the operation was cancelled
    ├── NotSaved                        5   no: the guest that was asked for is not saved
    ├── Warned                          6   yes: it would work, and there is what to be warned of
    ├── FormatError                     2   the bytes are not what the format allows
    │   ├── Truncated                       they end too early
    │   ├── TooBig                          a length or count above its bound
    │   ├── BadRecord                       a field or an order that the format forbids
    │   ├── Damaged                         not the bytes that were sealed
    │   └── Unsupported                     legal, but not for this reader
    ├── HostError                       3   a party on this host failed or refused
    │   ├── StoreError                      xenstore
    │   ├── DeviceModelError                QEMU
    │   │   ├── OpenFileFailed                  it could not open the file
    │   │   └── WriteFailed                     it could not write the file
    │   ├── HypervisorError                 Xen, or the lab in its place
    │   ├── InUse                           somebody else has what was asked for
    │   ├── Forbidden                       hooks or settings of the administrator forbid it
    │   ├── Refused                         several checks refuse it; it has the code of the first
    │   ├── HostTimeout                     a party did not answer in time
    │   ├── ReplyLost                       the request went out, its answer never came
    │   └── NotConverged                    a guest changes faster than its memory is written
    ├── ProtocolError                   4   the other host said something illegal
    └── OperationError                      "where is my guest?"
        ├── RolledBack                 10   as it was
        ├── Stranded                   11   not as it was; the text lists what is left to do
        └── PastReturn                 12   the other copy is the guest
            └── OutcomeUnknown         13   in doubt: nobody can tell which copy lives

An error met before a guest was touched is raised as it is.  One met afterwards is the
``__cause__`` of an `OperationError`, whose class says where the guest is now.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "BadRecord",
    "Cancelled",
    "Damaged",
    "DeviceModelError",
    "Forbidden",
    "FormatError",
    "HostError",
    "HostTimeout",
    "HypervisorError",
    "InUse",
    "NotConverged",
    "NotSaved",
    "OpenFileFailed",
    "OperationError",
    "OutcomeUnknown",
    "PastReturn",
    "ProtocolError",
    "Refused",
    "ReplyLost",
    "RolledBack",
    "StoreError",
    "Stranded",
    "TooBig",
    "Truncated",
    "Unsupported",
    "UsageError",
    "Warned",
    "WriteFailed",
    "XenqemuError",
]


def in_words(error: BaseException) -> str:
    """Return the message of any error, for people; its class if it has none."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, Refused):
        return f"{error}: {'; '.join(error.numbered)}"
    return str(error) or type(error).__name__


def notes_of(error: BaseException) -> Sequence[str]:
    """Return the notes of any error."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    return notes


class XenqemuError(Exception):
    """Root of the tree; `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(XenqemuError):
    """The request makes no sense as it stands (EX_USAGE of sysexits.h)."""

    exit_code = 64


class Cancelled(XenqemuError):
    """The operation was cancelled, by `xenqemu cancel`."""

    exit_code = 14


class NotSaved(XenqemuError):
    """The answer to whether a guest is saved is no; no error has this exit code."""

    exit_code = 5


class Warned(XenqemuError):
    """The answer to whether it would work is yes, with warnings; no error has this exit code."""

    exit_code = 6


class FormatError(XenqemuError):
    """Bytes that the format does not allow.

    `record` names the place in the format's own words, `offset` is the position in bytes of
    the offending field from the start of what was read, `expected` and `got` say the rest.
    """

    exit_code = 2

    def __init__(self, record: str, offset: int, expected: str, got: str) -> None:
        super().__init__(f"{record} at offset {offset:#x}: expected {expected}, got {got}")
        self.record = record
        self.offset = offset
        self.expected = expected
        self.got = got


class Truncated(FormatError):
    """The stream ended inside `record`."""


class TooBig(FormatError):
    """A length or count above its bound; nothing was allocated for it."""


class BadRecord(FormatError):
    """A field, or an order of records, that the format forbids."""


class Damaged(FormatError):
    """Bytes that are not those that were sealed; `places` are all that were found."""

    def __init__(
        self, record: str, offset: int, expected: str, got: str, places: Sequence[object] = ()
    ) -> None:
        super().__init__(record, offset, expected, got)
        self.places = tuple(places)


class Unsupported(FormatError):
    """A version or a feature that is legal but that this reader does not know."""


class HostError(XenqemuError):
    """A party on this host failed or refused."""

    exit_code = 3


class StoreError(HostError):
    """xenstored refused or failed; `code` is the errno name it answered, "" if none."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class DeviceModelError(HostError):
    """QEMU refused or failed; `kind` is the error class it answered, "" if none."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class OpenFileFailed(DeviceModelError):
    """QEMU could not open the file for its state."""


class WriteFailed(DeviceModelError):
    """QEMU opened the file for its state but could not write it (the command's IOError)."""


class HypervisorError(HostError):
    """The hypervisor refused or failed."""


class InUse(HostError):
    """Somebody else has what was asked for; the message names them."""


class Forbidden(HostError):
    """A hook forbade an act, or no setting allows it; nothing was touched."""


class Refused(HostError):
    """Several checks refuse what was asked for; nothing was touched.

    The message is a summary, and `reasons` are the errors of all checks, in their order; each is a
    note too.  The exit code is that of the first.
    """

    def __init__(self, cannot: str, reasons: Sequence[XenqemuError]) -> None:
        super().__init__(f"{cannot}, for {len(reasons)} reasons")
        self.reasons = tuple(reasons)
        texts = ("; ".join([str(each), *notes_of(each)]) for each in reasons)
        self.numbered = tuple(f"{number}. {text}" for number, text in enumerate(texts, 1))
        self.exit_code = self.reasons[0].exit_code
        for each in self.numbered:
            self.add_note(each)


class HostTimeout(HostError):
    """A party did not answer within its deadline; the act may be repeated or given up."""


class ReplyLost(HostError):
    """A request went out and its answer never came: whether it was done is unknown, so look."""


class NotConverged(HostError):
    """A running guest changes its memory faster than it can be written; it was not suspended."""


class ProtocolError(XenqemuError):
    """The other host said something illegal."""

    exit_code = 4


class OperationError(XenqemuError):
    """An operation failed in `phase`; `__cause__` is the first error.

    Failures to roll back are attached as notes, so that the first error stays the one shown.
    """

    def __init__(self, message: str, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


class RolledBack(OperationError):
    """The guest is as it was before the operation."""

    exit_code = 10


class Stranded(OperationError):
    """The guest could not be put back; the message lists what is left to do, in order."""

    exit_code = 11


class PastReturn(OperationError):
    """The point of no return was passed: the other copy is the guest."""

    exit_code = 12


class OutcomeUnknown(PastReturn):
    """In doubt: nobody can tell which copy lives; touch neither, look at both."""

    exit_code = 13
