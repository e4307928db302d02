"""Signals that wait: they come once, after the block, and to whoever had them before."""

import signal
import subprocess
import sys
import threading

import pytest

from xenqemu.system.signals import ENDING, signals_deferred


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
