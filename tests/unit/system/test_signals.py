"""Signals that wait: they come once, after the block, and to whoever had them before."""

import signal
import subprocess
import sys
import threading

import pytest

from xenqemu.system.signals import (
    ENDING,
    allow_interrupts,
    hold_interrupts,
    interrupted_once,
    signals_deferred,
)


@pytest.fixture(autouse=True)
def defaults():
    """Begin as a program does, though nohup may have begun the tests."""
    before = [signal.signal(number, signal.SIG_DFL) for number in ENDING]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(ENDING, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def come():
    """Return a list of the signals that came, which are handled for the test."""
    found = []
    before = [signal.signal(number, lambda n, _frame: found.append(n)) for number in ENDING]
    yield found
    for number, handler in zip(ENDING, before, strict=True):
        signal.signal(number, handler)


def test_nothing_comes(come):
    with signals_deferred():
        pass
    assert come == []


@pytest.mark.parametrize("number", ENDING)
def test_one_comes_afterwards(come, number):
    with signals_deferred():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert come == []
    assert come == [number]
    signal.raise_signal(number)
    assert come == [number, number]


def test_an_interrupt_is_raised_behind_the_block():
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals_deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")
    assert done == ["all of it"]


def test_an_interrupt_is_not_lost_where_the_block_fails():
    with pytest.raises(KeyboardInterrupt) as caught, signals_deferred():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_what_is_ignored_stays_so(come):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals_deferred():
        signal.raise_signal(signal.SIGHUP)
    assert come == []
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_what_kills_us_does_so_at_once():
    program = """
import signal
from xenqemu.system.signals import signals_deferred
with signals_deferred():
    signal.raise_signal(signal.SIGTERM)
    print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")


def test_in_another_thread_nothing_is_changed(come):
    def run():
        with signals_deferred():
            handlers.append(signal.getsignal(signal.SIGINT))

    handlers = []
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


@pytest.mark.parametrize("number", ENDING)
def test_the_first_interrupts_and_the_next_do_not(number):
    with interrupted_once(exits=False):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        for each in ENDING:
            signal.raise_signal(each)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_held_comes_when_it_is_allowed():
    with interrupted_once(exits=False):
        hold_interrupts()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            allow_interrupts()
        allow_interrupts()


def test_what_is_held_to_the_end_is_dropped():
    with interrupted_once(exits=False):
        hold_interrupts()
        signal.raise_signal(signal.SIGINT)
    allow_interrupts()


def test_a_program_that_exits_is_not_killed_any_more():
    program = """
import os, signal
from xenqemu.system.signals import ENDING, interrupted_once
with interrupted_once(exits=True):
    pass
for number in ENDING:
    os.kill(os.getpid(), number)
print("still here")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"still here\n")


def test_a_block_is_told_of_one_that_will_be_raised():
    told = []
    with pytest.raises(KeyboardInterrupt):
        with signals_deferred(lambda: told.append("now")):
            signal.raise_signal(signal.SIGINT)
            assert told == ["now"]


def test_a_block_is_not_told_of_one_that_will_not_be_raised(come):
    told = []
    with signals_deferred(), signals_deferred(lambda: told.append("now")):
        signal.raise_signal(signal.SIGINT)
    assert (come, told) == ([signal.SIGINT], [])
    with interrupted_once(exits=False):
        hold_interrupts()
        with signals_deferred(lambda: told.append("now")):
            signal.raise_signal(signal.SIGINT)
    assert told == []
