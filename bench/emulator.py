#!/usr/bin/env python3
"""Settings of the emulator that the Xen hosts of the tests run in: how fast, and how steady.

Each setting boots its hosts side by side, restores a guest, times stock xl and ours, then leaves
many guests alone while it counts: a vcpu that ends in a triple fault is a guest that the emulation
has lost, for nothing but Xen and the guest itself is at work then.

    bench/emulator.py [--minutes M] [--hosts N] SETTING...     SETTING: the words of QEMU, see below
    bench/emulator.py --minutes 20 --hosts 2 "tcg,thread=single 1"

A setting is "ACCEL VCPUS [XEN_ARGS]", as scripts/xenbed reads them from $ACCEL, $VCPUS, $XEN_ARGS.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.integration.xen.bed import ROOT, Bed, record

LOST = re.compile(r"^.*Triple fault - invoking HVM shutdown action.*$", re.MULTILINE)
"""What Xen's console says of a guest whose vcpu came to its end."""

COPIES = {"hvm": 4, "pvh": 4, "pv": 1, "firmware": 1}
"""How many of each guest run at once while they are watched."""

COMMANDS = {
    "xl save -c": "xl save -c hvm /tmp/save",
    "xl restore": "xl destroy hvm; xl restore /tmp/save",
    "our save -c": "python3 -m xenqemu save -c hvm /tmp/save",
    "our restore": "xl destroy hvm; python3 -m xenqemu restore /tmp/save",
}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=10, help="for which the guests are watched"
    )
    parser.add_argument("--hosts", type=int, default=1, help="that run side by side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("settings", nargs="+")
    chosen = parser.parse_args()
    for setting in chosen.settings:
        accel, vcpus, *xen_args = setting.split(maxsplit=2)
        os.environ |= {"ACCEL": accel, "VCPUS": vcpus, "XEN_ARGS": " ".join(xen_args)}
        with ThreadPoolExecutor() as pool:
            words = [(chosen.rounds, chosen.minutes)] * chosen.hosts
            for line in pool.map(lambda each: measure(*each), words):
                print(f"{setting:40} x{chosen.hosts}  {line}", flush=True)


def measure(rounds: int, minutes: float) -> str:
    """Boot a host; return what it took, and how many guests it lost."""
    with ExitStack() as stack:
        bed = stack.enter_context(Bed("4.17"))
        began = time.monotonic()
        bed.restore("hvm")
        bed.wait_ticks("hvm")
        first = time.monotonic() - began
        took: dict[str, list[float]] = {}
        for _ in range(rounds):
            for what, command in COMMANDS.items():
                started = time.monotonic()
                bed.must(command, timeout=300)
                took.setdefault(what, []).append(time.monotonic() - started)
                bed.wait_ticks("hvm")
        bed.must("xl destroy hvm")
        for name, copies in COPIES.items() if minutes else ():
            for number in range(copies):
                restore_copy(bed, name, f"{name}{number}")
        lived = watch(bed, minutes * 60)
        lost = len(LOST.findall(bed.console()))
    medians = ", ".join(f"{what} {statistics.median(each):.1f}" for what, each in took.items())
    return (
        f"boot {bed.boot_seconds:.1f} s, restore to ticks {first:.1f}, {medians}; "
        f"lost {lost} guests in {lived / 3600:.2f} h of theirs"
    )


def restore_copy(bed: Bed, name: str, new: str) -> None:
    """Bring a guest back under another name, so that there may be several."""
    text = (ROOT / f"scripts/xenbed.d/guests/{name}.cfg").read_text()
    serial = f"file:/var/log/xen/{new}.serial"
    cfg = bed.put(f"{new}.cfg", f'{text}\nname = "{new}"\nserial = "{serial}"\n')
    bed.must(f"xl restore -e {cfg} {record(name)}", timeout=300)


def watch(bed: Bed, seconds: float) -> float:
    """Leave the guests alone; return for how many seconds of a guest they ran."""
    lived = 0.0
    now = time.monotonic()
    end = now + seconds
    while now < end:
        time.sleep(min(end - now, 10))
        guests = len(bed.must("xl list", timeout=120).splitlines()) - 2
        before, now = now, time.monotonic()
        lived += (now - before) * guests
    return lived


main()
