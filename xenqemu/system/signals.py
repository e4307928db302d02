"""Signals that ask a process to end, kept from where they would leave a guest half rolled back.

Python raises Ctrl-C between any two steps of the main thread: in the middle of an undo, of an
import, or of what tells how an operation ended.  More than one may come at once: from a user who
presses it again, from a terminal that closes, from a service manager that stops a unit.
"""

from __future__ import annotations

import os
import signal
from _thread import get_native_id
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask a process to end."""


class _Program:
    """What these signals do within `interrupted_once`."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.raised = self.held = self.late = False

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        if self.held:
            self.late = True
        elif not self.raised:
            self.raised = True
            raise KeyboardInterrupt

    @property
    def raises(self) -> bool:
        return not (self.held or self.raised)

    def allow(self) -> None:
        self.held, late, self.late = False, self.late, False
        if late:
            self(signal.SIGINT, None)


_program = _Program()


@contextmanager
def interrupted_once(*, exits: bool) -> Iterator[None]:
    """Have the first of these signals raise `KeyboardInterrupt`, and further ones do nothing.

    One that is ignored stays so, as nohup has it.  After the block they are ignored if the program
    `exits` then: while Python ends, they would kill it, and its exit status would be theirs.
    """
    _program.begin()
    found = {number: signal.getsignal(number) for number in ENDING}
    before = {number: it for number, it in found.items() if it not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _program)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if exits else handler)
        _program.begin()


def hold_interrupts() -> None:
    """Within `interrupted_once`, let the program tell first how its operation has ended."""
    if _in_main_thread():
        _program.held = True


def allow_interrupts() -> None:
    """End what `hold_interrupts` began; raise `KeyboardInterrupt` if a signal came meanwhile."""
    if _in_main_thread():
        _program.allow()


@contextmanager
def signals_deferred(interrupt: Callable[[], None] | None = None) -> Iterator[None]:
    """Defer these signals to the end of the block, whose every wait has a deadline.

    `interrupt` is called, between any two steps, at one that is to raise `KeyboardInterrupt` then,
    to end the block in order.
    They are dropped if the block ends by Ctrl-C already.  One without a handler still kills at
    once.  In other threads Python raises none.
    """
    if not _in_main_thread():
        yield
        return
    late: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        late.append(number)
        if interrupt is not None and _raises(handlers[signal.Signals(number)]):
            interrupt()

    handlers = {number: signal.getsignal(number) for number in ENDING}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, note)
    try:
        yield
    except KeyboardInterrupt:
        late.clear()
        raise
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        if late:
            signal.raise_signal(late[0])


def _raises(handler: object) -> bool:
    """Return whether a handler is known to raise `KeyboardInterrupt` now."""
    return handler is signal.default_int_handler or (handler is _program and _program.raises)


def _in_main_thread() -> bool:
    return get_native_id() == os.getpid()  # as Linux has it; `threading` need not be loaded
