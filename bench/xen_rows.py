"""Rows of the emulated Xen host: what a MiB takes, and what each command takes before the first.

Three guests tell these apart: of 128 and of 460 MiB, in which next to nothing is touched, and of
460 MiB with 300 of data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, partial

from row import Bench, Row, Values, timed

from tests.integration.xen.bed import GUESTS, ROOT, Bed

VERSION = "4.17"
SMALL, LARGE, TOUCHED = 128, 460, 300
"""MiB of the guests, and of data in the last one."""

SETTLE = 30.0
"""Seconds in which the guest fills its memory."""

TIMEOUT = 300.0
OURS = "python3 -m xenqemu"

Times = dict[str, float]
"""Seconds of `save` and `restore`, of ours and of xl's, by "OURS save"."""


@cache
def measured(rounds: int) -> list[dict[str, Times]]:
    """Return what each round took on each guest, and Python alone; one host for all rows."""
    found: list[dict[str, Times]] = [{} for _ in range(rounds)]
    with ExitStack() as stack:
        bed = stack.enter_context(Bed(VERSION))
        for name, memory, touched in (
            ("small", SMALL, 0),
            ("large", LARGE, 0),
            ("touched", LARGE, TOUCHED),
        ):
            create(bed, memory, touched)
            for each in found:
                each[name] = measure(bed)
            bed.must("xl destroy hvm")
    return found


def create(bed: Bed, memory: int, touched: int) -> None:
    """Start a guest, which fills as many MiB as are to be touched."""
    text = (ROOT / "scripts/xenbed.d/guests/hvm.cfg").read_text()
    cfg = bed.put("bench.cfg", f"{text}\nmemory = {memory}\n")
    bed.must(f"xl create {cfg}", TIMEOUT)
    bed.wait_ticks("hvm")
    if touched:
        bed.tell("hvm", f"rewrite {touched} 1")
        time.sleep(SETTLE)


def measure(bed: Bed) -> Times:
    """Time each command once, ours and xl's in turns."""
    took = {"pass": timed(lambda: bed.must("python3 -c pass"))}
    for who, program in (("ours", OURS), ("xl", "xl")):
        bed.must("rm -f /tmp/save")  # there is no space for two
        took[f"{who} save"] = timed(partial(bed.must, f"{program} save -c hvm /tmp/save", TIMEOUT))
        bed.must("xl destroy hvm")
        took[f"{who} restore"] = timed(partial(bed.must, f"{program} restore /tmp/save", TIMEOUT))
        bed.wait_ticks("hvm")
    return took


def per_mib(verb: str, pages: str, bench: Bench) -> Values:
    """Return the milliseconds that a MiB takes, of data or of zeros."""
    few, many, mib = ("large", "touched", TOUCHED)
    if pages == "zeros":
        few, many, mib = ("small", "large", LARGE - SMALL)

    def slope(who: str) -> list[float]:
        act = f"{who} {verb}"
        return [1000 * (each[many][act] - each[few][act]) / mib for each in measured(bench.rounds)]

    return Values(slope("ours"), slope("xl"), "ms", speed=False)


def fixed(verb: str, bench: Bench) -> Values:
    """Return what the command takes of a small guest, and Python alone."""
    found = [each["small"] for each in measured(bench.rounds)]
    return Values(
        [each[f"ours {verb}"] for each in found], [each["pass"] for each in found], speed=False
    )


def no_host() -> str:
    """Return why no Xen host can be booted."""
    return "" if GUESTS.exists() else f"{GUESTS} is missing: scripts/xenbed build makes it"


def rows(verb: str) -> list[Row]:
    """Return the rows of `save` or `restore`."""

    def made(name: str, measure: str, beside: str, aim: str, run: Callable[[Bench], Values]) -> Row:
        return Row(f"xen-{verb}-{name}", measure, beside, aim, run, no_host)

    return [
        made(
            "data", f"{verb}, a MiB of data", f"xl {verb}", "<= 1.0", partial(per_mib, verb, "data")
        ),
        made(
            *("zeros", f"{verb}, a MiB of zeros", f"xl {verb}", "<= 0.5"),
            partial(per_mib, verb, "zeros"),
        ),
        made(
            *("fixed", f"{verb}, {SMALL} MiB", "python3 -c pass", "<= 1.5 s above it"),
            partial(fixed, verb),
        ),
    ]


XEN_ROWS = (*rows("save"), *rows("restore"))
