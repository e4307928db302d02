"""How long is waited, and what is tried again: every wait and every retry of this floor by name.

Only acts that may be repeated get a retry policy: a save or a suspend never does.

A wait has a deadline of its own, and is part of an operation that may be cancelled meanwhile or
run out of its time for all: long waits are cut into slices, and `attend` is called between them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from xenqemu.errors import HostTimeout, StoreError

T = TypeVar("T")


@dataclass(frozen=True)
class Deadline:
    """A moment of the monotonic clock until which something has to be done."""

    moment: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the moment that is `seconds` from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then, never negative."""
        return max(0.0, self.moment - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is too late."""
        return self.left == 0.0


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds that each party has: every wait of this program, by name.

    Where libxl waits for the same, the value is libxl's.
    """

    operation: float = 86400.0
    """For all of an operation, up to its point of no return."""

    acknowledge: float = 60.0
    """For a guest to take the request to suspend."""

    suspend: float = 60.0
    """For a guest to suspend, once it has taken the request."""

    late: float = 10.0
    """For a guest that did not suspend in time to do so late, and to be resumed then."""

    store_request: float = 10.0
    """For xenstored to answer one request."""

    qemu_greeting: float = 10.0
    """For QEMU's monitor to greet us: it serves one client at a time."""

    qemu_query: float = 10.0
    """For QEMU to answer a question."""

    qemu_act: float = 60.0
    """For QEMU to do something that is neither a save nor a load."""

    qemu_save: float = 120.0
    """For QEMU to write the state of its devices; libxl waits for that without end."""

    qemu_load: float = 60.0
    """For QEMU to load the state of its devices."""

    xl_command: float = 60.0
    """For xl to list or to destroy a domain; hotplug scripts alone have 40."""

    xl_stall: float = 300.0
    """For xl to read on in a restore: it may have to wait for memory, or for another xl."""

    xl_finish: float = 180.0
    """For xl to end a restore, once it has the last byte."""

    xl_give_up: float = 60.0
    """For xl to take back a restore that is given up."""

    helper_stall: float = 60.0
    """For libxl-save-helper to write or talk on while it saves a PV guest."""

    libxl_lock: float = 10.0
    """For another program to let go of one of libxl's locks on a domain."""

    lease_lock: float = 10.0
    """For another program or host to let go of the lock on the lease of a disk image."""

    peer_banner: float = 120.0
    """For another host to be ready for a guest; a password may be asked for before."""

    peer_stream: float = 120.0
    """For each further stream of a migration to come; a password may be asked for before."""

    peer_answer: float = 60.0
    """For another host to say whether it could take a guest."""

    peer_stall: float = 300.0
    """For another host to take or to send more of a record."""

    peer_ready: float = 300.0
    """For another host to make a domain of a record, once it has the last byte."""

    peer_message: float = 180.0
    """For another host to say or to take any other message."""

    peer_end: float = 2.0
    """For the command that leads to another host to end, and again when told to."""

    qemu_start: float = 60.0
    """In the lab: for QEMU to answer after its start."""

    xenstored_start: float = 10.0
    """In the lab: for xenstored to answer after its start, and to make room in its queue."""

    lab_lock: float = 30.0
    """In the lab: for another command to let go of the host's lock."""


PATIENCE = Deadlines()
"""What everyone has unless told otherwise."""


@dataclass(frozen=True)
class Policy:
    """Which errors an act is repeated after, how often, with what pauses; then the last is raised.

    `seconds` is for all attempts, `pause` the longest between two.  May be shared by threads and
    nested: each use has a state of its own.
    """

    repeats: Callable[[BaseException], bool]
    attempts: int
    seconds: float
    pause: float

    def __call__(self, act: Callable[[], T]) -> T:
        """Return what `act` returns, at last."""
        import tenacity  # noqa: PLC0415  loading it takes longer than most commands go on

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self.repeats),
            stop=tenacity.stop_after_attempt(self.attempts)
            | tenacity.stop_after_delay(self.seconds),
            wait=tenacity.wait_random_exponential(multiplier=0.001, max=self.pause),
            reraise=True,
        )
        return retrying(act)


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, StoreError) and error.code == "EAGAIN"


CONFLICT = Policy(_is_conflict, attempts=64, seconds=20.0, pause=0.25)
"""For what xenstored refused because something changed meanwhile: nothing was done by it."""


SLICE = 0.25
"""Seconds after which a wait looks whether the operation that it is part of is still wanted."""


@dataclass(frozen=True)
class Attention:
    """What an operation's waits look at: `check` raises if it is to end, as at `deadline`."""

    check: Callable[[], None] = lambda: None
    deadline: Deadline = Deadline(math.inf)


UNATTENDED = Attention()
"""Of a wait that is part of no operation."""

_attention: ContextVar[Attention] = ContextVar("attention", default=UNATTENDED)


@contextmanager
def attended(attention: Attention) -> Iterator[None]:
    """Have all waits in the block, in this thread, look at `attention`."""
    token = _attention.set(attention)
    try:
        yield
    finally:
        _attention.reset(token)


def attend() -> None:
    """Raise what the present operation is to end with, if it is to end."""
    _attention.get().check()


def allowed(seconds: float) -> float:
    """Return how many of `seconds` the present operation has left for one wait."""
    return min(seconds, _attention.get().deadline.left)


def patiently(wait: Callable[[float], T], seconds: float) -> T:
    """Return what `wait` (for so many seconds at most) returns once that is true.

    What it returned last, which is false, after `seconds`.
    """
    deadline = Deadline.after(seconds)
    while not (result := wait(min(SLICE, deadline.left))) and not deadline.passed:
        attend()
    return result


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Return what `call` returns or raise what it raises, waiting for `seconds` at most.

    It runs in a thread of its own.  After `HostTimeout` that thread is left alone; it ends with
    the process at the latest, and whatever `call` works on must not be used again.
    """
    outcome: futures.Future[T] = futures.Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except Exception as error:  # noqa: BLE001 - is raised again in the thread that waits
            outcome.set_exception(error)

    threading.Thread(target=run, name=what, daemon=True).start()
    futures.wait([outcome], seconds)
    if not outcome.done():
        raise HostTimeout(f"{what}: not done within {seconds:g} s")
    return outcome.result()
