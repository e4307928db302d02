"""Threads that share work: all of it is done, the caller alone reports, and none is left."""

import os
import threading
import time
from contextlib import contextmanager

import pytest

from xenqemu.errors import Cancelled
from xenqemu.host.memory.workers import BUFFERS, WriteBehind, in_threads, joined, workers
from xenqemu.system.cancellation import Cancellation, cancellable, check_cancelled

THREADS = pytest.mark.parametrize("threads", [1, 2, 5])


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@contextmanager
def opened(do):
    yield do


@THREADS
def test_each_item_is_done_once(threads):
    done, reports = [], []

    def work(item):
        time.sleep(0.001)
        done.append(item)
        return item

    in_threads(iter(range(100)), lambda: opened(work), reports.append, threads)
    assert sorted(done) == list(range(100))
    assert reports == sorted(reports)
    assert reports[-1] == sum(range(100))


@THREADS
def test_nothing_to_do(threads):
    reports = []
    in_threads(iter(()), lambda: opened(int), reports.append, threads)
    assert reports == [0] * (threads > 1)


def test_the_caller_alone_reports():
    here = threading.get_ident()
    both = threading.Barrier(2, timeout=10)  # each has one of the first two items
    seen = []

    def work(item):
        if item < 2:
            both.wait()
        return 1

    def report(_done):
        seen.append(threading.get_ident())

    in_threads(iter(range(50)), lambda: opened(work), report, 2)
    assert set(seen) == {here}


def test_what_a_thread_works_with_is_its_own_and_closed():
    all_three = threading.Barrier(3, timeout=10)
    made, closed = [], []

    @contextmanager
    def worker():
        mine = object()
        made.append(mine)
        all_three.wait()
        yield lambda _item: 1
        closed.append(mine)

    in_threads(iter(range(20)), worker, lambda _done: None, 3)
    assert len(set(made)) == 3
    assert set(closed) == set(made)


@THREADS
@pytest.mark.parametrize("fails", ["here", "helper", "any"])
def test_an_error_in_a_thread_ends_all_and_is_raised(threads, fails):
    here = threading.get_ident()
    begun = []

    def work(item):
        begun.append(item)
        mine = threading.get_ident() == here
        if threads == 1 or fails == "any" or mine == (fails == "here"):
            raise OSError(5, "the disk is gone")
        time.sleep(0.01)
        return 1

    with pytest.raises(OSError, match="the disk is gone"):
        in_threads(iter(range(1000)), lambda: opened(work), lambda _done: None, threads)
    assert len(begun) < 1000


@THREADS
def test_an_error_of_the_items_themselves(threads):
    def items():
        yield from range(10)
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        in_threads(items(), lambda: opened(int), lambda _done: None, threads)


@THREADS
def test_what_a_thread_works_with_cannot_be_opened(threads):
    @contextmanager
    def worker():
        raise OSError("no handle")
        yield

    with pytest.raises(OSError, match="no handle"):
        in_threads(iter(range(10)), worker, lambda _done: None, threads)


@THREADS
def test_a_report_that_raises_ends_all(threads):
    begun = []

    def work(item):
        begun.append(item)
        time.sleep(0.001)
        return 1

    def report(done):
        if done >= 10:
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        in_threads(iter(range(1000)), lambda: opened(work), report, threads)
    assert 10 <= len(begun) < 1000


def test_a_report_holds_all_back():
    """So a bandwidth is kept, whoever writes."""
    begun = []

    def work(_item):
        begun.append(1)
        return 1

    def report(done):
        time.sleep(0.01)
        assert len(begun) <= done + 2

    in_threads(iter(range(20)), lambda: opened(work), report, 3)


def test_a_wait_for_a_helper_may_be_cancelled():
    here = threading.get_ident()
    waits, cancelled = threading.Event(), threading.Event()

    def work(_item):
        if threading.get_ident() == here:
            waits.wait(10)
        else:
            waits.set()
            assert cancelled.wait(10)
        return 1

    def check():
        cancelled.set()
        raise Cancelled("enough")

    with cancellable(Cancellation(check)), pytest.raises(Cancelled):
        in_threads(iter(range(2)), lambda: opened(work), lambda _done: None, 2)


def test_helpers_do_not_hear_of_cancelling_by_themselves():
    def check():
        assert threading.current_thread() is threading.main_thread()

    def work(_item):
        check_cancelled()
        return 1

    with cancellable(Cancellation(check)):
        in_threads(iter(range(50)), lambda: opened(work), lambda _done: None, 2)


def test_so_many_threads_as_there_are_processors(monkeypatch):
    for cpus, threads in (({3}, 1), ({0, 1}, 2), (set(range(64)), 2)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _pid, cpus=cpus: cpus)
        assert workers() == threads


THREADED = pytest.mark.parametrize("threaded", [False, True])


@THREADED
def test_buffers_are_written_in_order(threaded):
    written = []

    def write(data, position):
        time.sleep(0.001)
        written.append((bytes(data), position))

    with WriteBehind(write, 8, threaded=threaded) as behind:
        for number in range(50):
            piece = behind.buffer()[: number % 8]
            piece[:] = bytes([number]) * len(piece)
            behind.put(piece, number)
    assert written == [(bytes([number]) * (number % 8), number) for number in range(50)]


@THREADED
def test_an_error_of_a_write_is_raised_and_nothing_more_is_written(threaded):
    written = []

    def write(_data, position):
        written.append(position)
        if position == 3:
            raise OSError("full")

    with pytest.raises(OSError, match="full"), WriteBehind(write, 8, threaded=threaded) as behind:
        for number in range(1000):
            behind.put(behind.buffer(), number)
    assert written == [0, 1, 2, 3]


@THREADED
def test_an_error_of_the_last_write(threaded):
    def write(_data, _position):
        raise OSError("full")

    with pytest.raises(OSError, match="full"), WriteBehind(write, 8, threaded=threaded) as behind:
        behind.put(behind.buffer(), 0)


@THREADED
def test_an_error_of_the_caller_is_the_one_that_is_raised(threaded):
    def write(_data, _position):
        raise OSError("full")

    with pytest.raises(ZeroDivisionError), WriteBehind(write, 8, threaded=threaded) as behind:
        if threaded:
            behind.put(behind.buffer(), 0)
        raise ZeroDivisionError


def test_a_wait_for_a_buffer_may_be_cancelled():
    cancelled = threading.Event()

    def check():
        cancelled.set()
        raise Cancelled("enough")

    with (
        cancellable(Cancellation(check)),
        pytest.raises(Cancelled),
        WriteBehind(lambda _data, _position: cancelled.wait(10), 8, threaded=True) as behind,
    ):
        for number in range(BUFFERS + 2):
            behind.put(behind.buffer(), number)


def test_an_interrupt_does_not_leave_a_thread():
    class Interrupted(threading.Thread):
        joins = 0

        def join(self, timeout=None):
            self.joins += 1
            if self.joins == 1:
                raise KeyboardInterrupt
            super().join(timeout)

    thread = Interrupted(target=lambda: time.sleep(0.05))
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        joined([thread])
    assert not thread.is_alive()
