"""An operation that has ended, as logs and metrics keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from xenqemu.frozen import Frozen


class Result(Enum):
    """How an operation ended; the guest is elsewhere or in doubt after the last three."""

    DONE = "done"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled back"
    STRANDED = "stranded"
    PAST_RETURN = "past return"
    IN_DOUBT = "in doubt"


class EndedOperation(Frozen):
    """What is known of an operation at its end.

    `began` is in Unix time, `seconds` how long it took, `downtime` for how many of them its guest
    was suspended, `size` how many bytes of memory it moved.  `phases` have their names, beginnings
    and seconds.  `error` is "" for one that is done.
    """

    id: str
    verb: str
    domid: int
    name: str
    uuid: str
    file: str
    began: float
    seconds: float
    result: Result
    error: str
    size: int
    downtime: float
    phases: Sequence[tuple[str, float, float]]


Records = Callable[[EndedOperation], None]
"""Called with each operation of a host that has ended; raises `OSError` for what is not kept."""


def unrecorded(_ended: EndedOperation) -> None:
    """Keep nothing."""
