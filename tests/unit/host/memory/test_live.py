"""The loop of a live save, on pages that change as a test says."""

import io
import time

import pytest

from xenqemu.errors import Cancelled, NotConverged
from xenqemu.formats.stream.sink import Sink
from xenqemu.host.guest_memory import Live
from xenqemu.host.memory.live import Pace, write_live
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.system.cancellation import Cancellation, cancellable

PAGE = b"p" * 4096


class Pages:
    """Pages of which so many change in each iteration; `acts` is what was done to them."""

    def __init__(self, out, acts, first, *changed):
        self._out = out
        self._acts = acts
        self._next = first
        self._changed = list(changed)

    def write(self, progress):
        count, self._next = self._next, 0
        self._acts.append(f"write {count}")
        for done in range(count):
            self._out.write(PAGE)
            progress((done + 1) * 4096, count * 4096)
        return count

    def find_changed(self, *, suspended):
        self._acts.append("look" + " at the suspended" * suspended)
        self._next += self._changed.pop(0)
        return self._next


def written(precopy, *changed, suspend=None):
    """Return what was done in a live save, and the iterations that were reported."""
    acts, reported, steps = [], [], []
    out = Sink(io.BytesIO())
    live = Live(precopy, suspend or (lambda: acts.append("suspend")), reported.append)
    pages = Pages(out, acts, *changed)
    write_live(pages, out, lambda done, total: steps.append((done, total)), live)
    return acts, reported, steps


def test_iterations_until_few_are_left():
    acts, reported, steps = written(PrecopyOptions(threshold=2), 6, 3, 1, 2)
    assert acts == [
        "write 6",
        "look",
        "write 3",
        "look",
        "suspend",
        "look at the suspended",
        "write 3",
    ]
    assert [(r.number, r.pages, r.size, r.changed) for r in reported] == [
        (1, 6, 6 * 4096, 3),
        (2, 3, 3 * 4096, 1),
        (3, 3, 3 * 4096, 0),
    ]
    assert steps[:6] == [(done * 4096, 6 * 4096) for done in range(1, 7)]
    assert steps[6] == (4096, 3 * 4096)
    assert all(r.seconds > 0 for r in reported)


def test_a_guest_that_never_settles_is_suspended_after_so_many_iterations():
    acts, _, _ = written(PrecopyOptions(iterations=2, threshold=0), 4, 4, 4, 4)
    assert acts == [
        "write 4",
        "look",
        "write 4",
        "look",
        "suspend",
        "look at the suspended",
        "write 8",
    ]


def test_or_left_alone():
    with pytest.raises(NotConverged) as caught:
        written(
            PrecopyOptions(iterations=2, threshold=0, give_up=True), 4, 4, 7, suspend=pytest.fail
        )
    assert "after 2 iterations 7 pages had changed again" in str(caught.value)
    assert "wanted" not in str(caught.value)


def test_the_error_says_what_was_wanted():
    policy = PrecopyOptions(iterations=1, threshold=0, max_downtime=0.0, give_up=True)
    with pytest.raises(NotConverged, match=r"is expected \(not more than 0 s wanted\)"):
        written(policy, 4, 7)


def test_a_suspend_that_fails_ends_the_save():
    def suspend():
        raise RuntimeError("no suspend")

    with pytest.raises(RuntimeError, match="no suspend"):
        written(PrecopyOptions(), 4, 0, suspend=suspend)


@pytest.fixture
def clock(monkeypatch):
    """Stand in for time, which goes on by sleeping alone."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))
    return now


def test_the_bandwidth_is_kept_but_not_of_a_suspended_guest(clock):
    suspended_at = []
    _, reported, _ = written(
        PrecopyOptions(threshold=0, bandwidth=4096), 20, 10, 0, 500,
        suspend=lambda: suspended_at.append(clock[0]),
    )  # fmt: skip
    assert suspended_at == [1030.0]
    assert clock == [1030.0]
    assert [r.seconds for r in reported] == [0.0, 0.0, 0.0]  # waiting is no part of it


def test_each_iteration_begins_its_bandwidth_anew(clock):
    out = Sink(io.BytesIO())
    out.write(PAGE * 9)
    pace = Pace(out, 4096)
    time.sleep(3)
    out.write(PAGE * 2)
    pace.keep()
    assert (clock, pace.waited) == ([1003.0], 0.0)
    out.write(PAGE * 2)
    pace.keep()
    assert (clock, pace.waited) == ([1004.0], 1.0)


def test_pace_without_a_limit_never_waits():
    out = Sink(io.BytesIO())
    pace = Pace(out, None)
    out.write(PAGE * 100)
    pace.keep()
    assert pace.waited == 0.0


def test_a_wait_for_the_bandwidth_ends_with_the_operation():
    def check():
        raise Cancelled("cancelled")

    out = Sink(io.BytesIO())
    pace = Pace(out, 1)
    out.write(PAGE)
    with cancellable(Cancellation(check)), pytest.raises(Cancelled):
        pace.keep()
