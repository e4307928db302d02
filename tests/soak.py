"""The same guest saved and brought back again and again; `scripts/soak` runs it.

After each cycle the guest has counted on without a gap and still knows its nonce, which lives
nowhere but in its memory; nothing is left behind of any cycle.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.integration.lab.guests import CFG, LINUX, Guest, Host, Seed, ticks
from tests.integration.xen.bed import Bed, assert_goes_on, saved_ticks

EVERY = 10
"""Cycles between two lines of progress."""


def lab(guest: Guest, hosts: tuple[Host, Host], record: Path, cycles: int) -> None:
    """Move a guest of the first of two lab hosts between them."""
    for cycle in range(1, cycles + 1):
        guest.wait_tick()
        guest = guest.moved(hosts[cycle % 2], record)
        counted = ticks(guest.said)
        assert hosts[1 - cycle % 2].empty()
        progress(cycle, cycles, f"the guest has counted to {counted}")
    guest.wait_tick()
    assert ticks(guest.said) > counted


def xen(bed: Bed, cycles: int) -> None:
    """Save and restore a Linux guest of a Xen host."""
    bed.restore("pvh")
    before = saved_ticks("pvh")
    for cycle in range(1, cycles + 1):
        after = bed.wait_ticks("pvh", beyond=before)
        assert_goes_on(before, after)
        bed.must("python3 -m xenqemu save pvh /tmp/soak.save", timeout=180)
        before = bed.ticks("pvh")
        bed.must("python3 -m xenqemu restore -e /tmp/soak.save", timeout=180)
        assert bed.must("ls -A /tmp /run/xenqemu | grep -vc :") == "3\n"
        progress(cycle, cycles, f"the guest has counted to {before[-1].number}")


def lab_alone(cycles: int) -> None:
    """Boot a guest on a host of its own, for `lab`."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as room:
        hosts = Host(Path(room) / "one"), Host(Path(room) / "two")
        for host in hosts:
            host.lab.up()
        try:
            text = CFG.format(name="soak", memory=128) + LINUX % 0
            record = Path(room) / "soak.save"
            lab(Seed.boot(hosts[0], text, record).on(hosts[0]), hosts, record, cycles)
        finally:
            for host in hosts:
                host.lab.down()


def xen_alone(cycles: int) -> None:
    """Boot a host for `xen`."""
    with Bed("4.17") as bed:
        xen(bed, cycles)


def progress(cycle: int, cycles: int, words: str) -> None:
    """Say how far it is, now and then."""
    if cycle % EVERY == 0 or cycle == cycles:
        print(f"{time.strftime('%T')} {cycle} of {cycles} cycles: {words}", flush=True)


if __name__ == "__main__":
    where, count = sys.argv[1:]
    {"lab": lab_alone, "xen": xen_alone}[where](int(count))
    print(f"{count} passed, 0 failed")
