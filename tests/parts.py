"""The parts of the tests, by their folders, and the hosts that they run on, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
from _pytest.mark.structures import ParameterSet

PARTS = {"tests/integration/xen/": "Xen", "tests/integration/lab/": "lab", "tests/fuzz/": "fuzz"}
"""Folders of tests whose time is told by itself; all others are unit tests."""

HOST = "Xen host"
"""The property in which a test tells of the host that it ran on."""


def part_of(nodeid: str) -> str:
    """Return the name of the part that a test belongs to."""
    return next((name for folder, name in PARTS.items() if nodeid.startswith(folder)), "unit")


def host_of(nodeid: str) -> str:
    """Return the version of Xen that a test runs on, if it is one of several."""
    found = re.search(r"[\[-](4\.\d\d)[\]-]", nodeid)
    return found[1] if found else ""


def shortened(values: Iterable[object], *kept: object) -> list[ParameterSet]:
    """Return parameters of which those `kept` are for each change, all others are long."""
    return [
        pytest.param(value, marks=[] if value in kept else pytest.mark.long) for value in values
    ]
