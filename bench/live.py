#!/usr/bin/env python3
"""The downtime of a guest while it is saved: `save -c` beside `save --live -c`, in one run.

It is the guest who says so: by the clock of its machine (RTC), which goes on while it is stopped
(scripts/guest/frozen.S).  One guest does next to nothing, another rewrites memory all the time.
Machines are shared and noisy, so what counts are ratios: the downtime beside that of `save -c`, and
beside the whole of the live save.

    bench/live.py [--fill MIB] [--rewrite MIB,PAGES] [--rounds N] [--folder DIR]   DIR: a tmpfs
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path

from save_restore import boot, hosts, run, timed

from xenqemu.lab.lab_host import Lab

SETTLE = 3.0
"""Seconds until the guest has seen its RTC change twice."""

LAG = re.compile(r"^lag (\d+)\r*$", re.MULTILINE)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fill", type=int, default=1792, help="MiB of data in the guest")
    parser.add_argument("--rewrite", default="64,512", help="MiB, and pages in 10 ms of them")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    chosen = parser.parse_args()
    for words in ("", f"rewrite={chosen.rewrite}"):
        with (
            tempfile.TemporaryDirectory(dir=chosen.folder) as folder,
            hosts(Path(folder)) as (one, _),
        ):
            console = boot(one, chosen.fill, f"frozen=2 {words}")
            rounds = [measure(one, console, Path(folder)) for _ in range(chosen.rounds)]
        report(rounds, f"{chosen.fill} MiB of data{', ' * bool(words)}{words}")


def measure(lab: Lab, console: Path, folder: Path) -> dict[str, float]:
    """Save the guest both ways; return how long that took, and how long it stood still."""
    took = {}
    for what, options in (("save -c", []), ("save --live -c", ["--live"])):
        before = lag(console)
        took[what] = timed(
            lambda more=options: run(lab, "save", "-c", *more, "bench", folder / "r")
        )
        took[f"downtime of {what}"] = (lag(console) - before) / 1000
        (folder / "r").unlink()
    return took


def lag(console: Path) -> int:
    """Return by how many milliseconds the guest has been stopped so far."""
    time.sleep(SETTLE)
    found = LAG.findall(console.read_text(errors="replace"))
    return int(found[-1]) if found else 0


def report(rounds: list[dict[str, float]], guest: str) -> None:
    """Print medians and ratios."""
    median = {what: statistics.median(took[what] for took in rounds) for what in rounds[0]}
    print(f"{guest}; {len(rounds)} rounds, medians")
    for what, seconds in median.items():
        print(f"    {what:28} {seconds:8.3f} s")
    downtime = median["downtime of save --live -c"]
    print(f"    downtime beside that of save -c   {downtime / median['downtime of save -c']:.3f}")
    print(f"    downtime beside the whole save    {downtime / median['save --live -c']:.3f}")


if __name__ == "__main__":
    main()
