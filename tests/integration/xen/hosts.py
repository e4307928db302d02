"""Which hosts a test runs on, and how its guests begin and go on there."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.mark.structures import ParameterSet

from tests.integration import moments
from tests.integration.xen.bed import Bed, Result, Tick, assert_goes_on, saved_ticks

XENSTOREDS = {"4.17": "oxenstored", "4.20": "xenstored"}
"""The hosts, and which of Xen's two stores each runs: Debian's default, and the one in C."""


class Ours(NamedTuple):
    """How our programs are called where they lie."""

    xenqemu: str
    save_helper: str
    block: str
    vif: str

    @property
    def in_xl(self) -> str:
        """What has xl use our save helper, before its command."""
        return f"LIBXL_SAVE_HELPER={self.save_helper}"


CHECKOUT = Ours(
    "python3 -m xenqemu",
    "/src/hotplug/libxl-save-helper",
    "/src/hotplug/xenqemu-block",
    "/src/hotplug/xenqemu-vif",
)
XENQEMU = CHECKOUT.xenqemu
HELPER = CHECKOUT.in_xl
FILE = "/tmp/guest.save"
GUESTS = ("hvm", "firmware", "pvh", "pv")


def on(*versions: str) -> list[ParameterSet]:
    """Return hosts as parameters; the newer Xen is not for each change."""
    return [
        pytest.param(each, marks=[] if each == "4.17" else pytest.mark.long) for each in versions
    ]


ON_417 = pytest.mark.parametrize("xen_host", on("4.17"), indirect=True)
ON_420 = pytest.mark.parametrize("xen_host", on("4.20"), indirect=True)


def goes_on(bed: Bed, name: str, before: list[Tick]) -> list[Tick]:
    """Wait for more of a guest: the same memory, no tick lost, its clock right."""
    after = bed.wait_ticks(name, beyond=before)
    assert_goes_on(before, after)
    if name != "firmware":
        assert_clock(bed, name)
    return after


CLOCKS_APART = 15
"""Seconds between the clocks of dom0 and of a guest at most: on a busy machine Xen and dom0 take
the time from the emulated RTC some seconds apart, which shows with stock xl alone (6 s)."""

CLOCK_MOVES = 4
"""Seconds that a guest's clock may move against dom0's while it is saved and restored.  One that
stood meanwhile is behind by a save and a restore, which take longer."""


def assert_clock(bed: Bed, name: str) -> None:
    """Assert that a guest's clock is right, and as far from dom0's as before."""
    earliest = int(bed.must("date +%s"))
    said = bed.clock(name)
    latest = int(bed.must("date +%s"))
    assert earliest - CLOCKS_APART <= said <= latest + CLOCKS_APART
    least, most = bed.clocks.setdefault(name, (said - latest, said - earliest))
    assert least - CLOCK_MOVES <= said - earliest
    assert said - latest <= most + CLOCK_MOVES


def begin(bed: Bed, name: str) -> list[Tick]:
    """Restore a guest from the build's save file; what it has said since."""
    bed.restore(name)
    return goes_on(bed, name, saved_ticks(name))


def at(bed: Bed, moment: str, act: str, *words: str) -> Result:
    """Run `xenqemu WORDS` in dom0, and execute `act` in it at a moment."""
    bed.put("at.py", moments.PROGRAM)
    return bed.run(shlex.join(["python3", "/job/at.py", moment, act, *words]), timeout=180)


class Boots(list[Bed]):
    """The hosts that a test has booted, one after the other; they are kept for its report."""

    def __call__(self, version: str, disk: Path | None = None) -> Bed:
        """Boot a host, after the one before has been switched off."""
        for bed in self:
            bed.switch_off()
        self.append(Bed(version, XENSTOREDS[version], disk).__enter__())
        return self[-1]
