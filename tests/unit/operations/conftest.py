"""A host of the fakes, and steps that only record that they were done."""

import pytest

from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError
from xenqemu.operations.journal import steps


class Acts(list):
    """Records what was done; `refuse` maps the names of acts that fail to what they raise."""

    def __init__(self, refuse=()):
        self.refuse = {name: HostError(f"{name} refused") for name in refuse}
        self.passed = False

    def do(self, name):
        self.append(name)
        if name in self.refuse:
            raise self.refuse[name]


@pytest.fixture
def acts(monkeypatch):
    done = Acts()
    monkeypatch.setitem(steps._ACTS, "do", lambda host, name: done.do(name))
    monkeypatch.setitem(steps._QUESTIONS, "passed", lambda host: done.passed)
    return done


@pytest.fixture
def host():
    return World().host
