"""Deadlines and retries."""

from __future__ import annotations

import threading
import time

import pytest

from xenqemu.errors import HostTimeout, StoreError
from xenqemu.host.policy import CONFLICT, Deadline, Policy, within


def test_a_deadline_to_come_and_one_gone() -> None:
    assert 9 < Deadline.after(10).left <= 10
    assert not Deadline.after(10).passed
    assert Deadline.after(-1).left == 0.0
    assert Deadline.after(0).passed


def test_a_conflict_is_tried_again() -> None:
    tries = iter([StoreError("busy", "EAGAIN"), StoreError("busy", "EAGAIN"), None])

    def act() -> str:
        error = next(tries)
        if error:
            raise error
        return "done"

    assert CONFLICT(act) == "done"
    assert next(tries, "none left") == "none left"


@pytest.mark.parametrize("error", [StoreError("no", "ENOENT"), ValueError("no")])
def test_another_error_is_not(error: Exception) -> None:
    calls = []

    def act() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as raised:
        CONFLICT(act)
    assert raised.value is error
    assert calls == [1]


def test_the_last_error_is_raised_and_policies_nest() -> None:
    twice = Policy(lambda error: isinstance(error, OSError), attempts=2, seconds=20, pause=0.01)
    calls = []

    def inner() -> None:
        calls.append(len(calls))
        raise OSError(len(calls))

    with pytest.raises(OSError, match=r"^4$"):
        twice(lambda: twice(inner))
    assert calls == [0, 1, 2, 3]


def test_within_returns_and_raises_what_the_call_does() -> None:
    assert within(5, "adding", lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        within(5, "dividing", lambda: 1 // 0)
    with pytest.raises(TimeoutError, match="its own"):
        within(5, "waiting", lambda: _raise(TimeoutError("its own")))


def test_within_does_not_wait_longer() -> None:
    gate = threading.Event()
    start = time.monotonic()
    with pytest.raises(HostTimeout, match=r"^a nap: not done within 0\.1 s$"):
        within(0.1, "a nap", lambda: gate.wait(20))
    assert time.monotonic() - start < 5
    gate.set()


def _raise(error: Exception) -> None:
    raise error
