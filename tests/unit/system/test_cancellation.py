"""Deadlines and retries."""

from __future__ import annotations

import math
import threading
import time

import pytest

from xenqemu.errors import Cancelled, HostTimeout, StoreError
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xenstore.store import CONFLICT
from xenqemu.system.cancellation import (
    NOT_CANCELLABLE,
    SLICE,
    Cancellation,
    cancellable,
    capped,
    check_cancelled,
    wait_cancellable,
)
from xenqemu.system.deadline import Deadline
from xenqemu.system.retry import Retry
from xenqemu.system.timed_call import within


def test_a_deadline_to_come_and_one_gone() -> None:
    assert 9 < Deadline.after(10).left <= 10
    assert not Deadline.after(10).passed
    assert Deadline.after(-1).left == 0.0
    assert Deadline.after(0).passed


def test_a_deadline_without_end() -> None:
    assert Deadline(math.inf).left == math.inf
    assert not Deadline(math.inf).passed


def test_deadlines_have_names() -> None:
    with pytest.raises(TypeError, match="positional"):
        Deadlines(1.0)  # type: ignore[misc]


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
    twice = Retry(lambda error: isinstance(error, OSError), attempts=2, seconds=20, pause=0.01)
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


def test_within_has_a_thread_that_is_not_cancelled() -> None:
    with cancellable(Cancellation(lambda: _raise(Cancelled("cancelled")))):
        within(5, "attending", check_cancelled)


# Waits that are part of an operation.


class Wait:
    """A wait that answers what it is told, and notes for how long it was asked to wait."""

    def __init__(self, *answers: object, takes: float = 0.0) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []
        self._takes = takes

    def __call__(self, seconds: float) -> object:
        self.asked.append(seconds)
        time.sleep(min(seconds, self._takes))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def counted() -> tuple[Cancellation, list[int]]:
    """Return a cancellation that notes each look."""
    looks: list[int] = []
    return Cancellation(lambda: looks.append(len(looks))), looks


def test_a_wait_returns_what_it_was_for() -> None:
    cancellation, looks = counted()
    wait = Wait("", None, [], "done")
    with cancellable(cancellation):
        assert wait_cancellable(wait, 20) == "done"
    assert len(wait.asked) == 4
    assert looks == [0, 1, 2]  # between, neither before nor behind


def test_a_long_wait_is_cut_into_slices() -> None:
    wait = Wait(False, False, True)
    wait_cancellable(wait, 3600)
    assert wait.asked == [SLICE] * 3
    wait = Wait(True)
    assert wait_cancellable(wait, math.inf)
    assert wait.asked == [SLICE]


def test_a_wait_in_vain_returns_its_last_answer_in_time() -> None:
    wait = Wait(False, 0, [], takes=0.04)
    start = time.monotonic()
    assert wait_cancellable(wait, 0.1) == []
    assert 0.1 <= time.monotonic() - start < 5
    assert 0 < wait.asked[0] <= 0.1
    assert wait.asked == sorted(wait.asked, reverse=True)  # never for longer than is left


def test_a_wait_of_no_time_looks_once_and_is_not_cancelled() -> None:
    for answer in (True, False):
        wait = Wait(answer)
        with cancellable(Cancellation(lambda: pytest.fail("it was checked"))):
            assert wait_cancellable(wait, 0) is answer
        assert wait.asked == [0.0]


def test_a_wait_ends_when_its_operation_is_to_end() -> None:
    wait = Wait(False)
    with (
        pytest.raises(Cancelled),
        cancellable(Cancellation(lambda: _raise(Cancelled("cancelled")))),
    ):
        wait_cancellable(wait, 3600)
    assert len(wait.asked) == 1


def test_attention_nests_and_ends_with_its_block() -> None:
    check_cancelled()  # nobody is there to end anything
    outer, inner = counted(), counted()
    with cancellable(outer[0]):
        with pytest.raises(ZeroDivisionError), cancellable(inner[0]):
            check_cancelled()
            raise ZeroDivisionError
        check_cancelled()
        check_cancelled()
    check_cancelled()
    assert (len(outer[1]), len(inner[1])) == (2, 1)


def test_threads_do_not_see_each_others_attention() -> None:
    looks: list[str] = []
    both = threading.Barrier(2)

    def work(name: str, cancellation: Cancellation) -> None:
        check_cancelled()
        with cancellable(cancellation):
            both.wait(20)
            check_cancelled()
            both.wait(20)
        check_cancelled()

    def named(name: str) -> threading.Thread:
        return threading.Thread(target=work, args=(name, Cancellation(lambda: looks.append(name))))

    threads = [named("one"), named("two")]
    with cancellable(Cancellation(lambda: looks.append("main"))):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(looks) == ["one", "two"]


def test_an_operation_allows_no_more_than_it_has_left() -> None:
    assert NOT_CANCELLABLE.deadline.left == math.inf
    assert capped(60) == 60
    with cancellable(Cancellation(deadline=Deadline.after(10))):
        assert 9 < capped(60) <= 10
        assert capped(5) == 5
        with cancellable(Cancellation(deadline=Deadline.after(-1))):
            assert capped(5) == 0
    assert capped(60) == 60


def _raise(error: Exception) -> None:
    raise error
