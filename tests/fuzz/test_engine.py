"""What is a failure, and how it is reported."""

import resource
import signal
import time
from contextlib import suppress

import pytest

from tests.fuzz import engine
from tests.fuzz.engine import Failure, Target, judge, outcome
from tests.fuzz.limits import TooSlow, limited
from tests.fuzz.noise import changed
from xenqemu.errors import BadRecord, HostError
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.source import Source

MIB = 1 << 20


def target(run, **other) -> Target:
    return Target("test", lambda: [b"a sample"], [changed], run, **other)


def raiser(error):
    def run(_data):
        raise error

    return run


def test_a_value_and_an_error_that_is_legal():
    assert outcome(target(len), b"x") == "a value"
    one, other = (
        outcome(target(raiser(BadRecord("here", at, f"{at} at most", "more"))), b"")
        for at in (1, 2)
    )
    assert one == other == "BadRecord: here: … at most"
    assert outcome(target(raiser(HostError("no")), errors=(HostError,)), b"") == "HostError: no"


@pytest.mark.parametrize(
    "error", [HostError("no"), KeyError("key"), RecursionError(), MemoryError(), AssertionError()]
)
def test_any_other_error_is_a_failure(error):
    found = judge(target(raiser(error)), 5)
    assert isinstance(found, Failure)
    assert (found.target, found.seed) == ("test", 5)
    assert found.what.startswith(type(error).__name__)
    assert "raise error" in found.details


def test_so_is_an_error_without_end():
    found = judge(target(raiser(BadRecord("here", 0, "x" * 5000, "y"))), 5)
    assert isinstance(found, Failure)
    assert found.what.startswith("AssertionError: an error of 5")


def test_a_failure_is_known_by_the_line_of_ours_that_it_was_met_in():
    run = target(lambda data: xl.read(Source(None)))
    one, other = judge(run, 1), judge(run, 2)
    assert one.where == other.where
    assert one.where.startswith("AttributeError /formats/stream/source.py:")
    assert judge(target(raiser(KeyError())), 1).where == "KeyError nowhere in xenqemu"


def endless(_data):
    while True:
        pass


def test_time_is_bounded(monkeypatch):
    monkeypatch.setattr(engine, "SECONDS", 0.05)
    assert judge(target(endless), 1).what.startswith("TooSlow")


def test_memory_is_bounded():
    assert judge(target(lambda data: bytes(1 << 30)), 1).what.startswith("MemoryError")
    assert judge(target(lambda data: bytes(16 * MIB)), 1) == "a value"
    assert judge(target(lambda data: bytes(1 << 30), memory=1 << 31), 1) == "a value"


def test_limits_are_gone_afterwards():
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGPROF)
    with pytest.raises(TooSlow), limited(0.05, 64 * MIB):
        endless(b"")
    with limited(0.05, 64 * MIB):
        pass
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert len(bytes(128 * MIB)) == 128 * MIB
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGPROF)) == before


def test_nothing_that_catches_exceptions_catches_the_end_of_time():
    with pytest.raises(TooSlow), limited(0.05, 64 * MIB):
        with suppress(Exception):  # what readers must not do, and yet might
            endless(b"")
