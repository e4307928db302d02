"""Journals of operations that only note that they were done."""

from __future__ import annotations

import math
from contextlib import contextmanager

from xenqemu.operations.events import unobserved
from xenqemu.operations.journal.log import About, Ledger
from xenqemu.operations.journal.operation import Journal, begin
from xenqemu.operations.journal.steps import Step

ABOUT = About("save", 1, "sample", "uuid", "/record")


def step(name):
    return Step("do", name, {"name": name})


@contextmanager
def working(host, observe=unobserved, timeout=math.inf):
    """A journal in its file."""
    with Journal(host, begin(host, ABOUT), observe, timeout) as job:
        yield job


def left(host):
    return [each.about.verb for each in Ledger(host.journals).found()]
