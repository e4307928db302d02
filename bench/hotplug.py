#!/usr/bin/env python3
"""Disks that are all added, then all removed, at once: xenqemu-block beside Xen's block script.

Each disk is a file of a guest of its own, in the xenstore of a lab host; the scripts are started as
libxl starts them, in turns, and make real loop devices.  After each turn it is seen that every disk
had one of its own, and that none is left.  Ratios of medians are told: above 1 is faster than
Xen's.  Needs root, and Debian's xen-utils-common and xenstore-utils.

    bench/hotplug.py [--disks N] [--rounds N]

`bench/hotplug_in_dom0` does the same on a Xen host.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xenqemu.host.disk import lease
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.lab_host import Lab
from xenqemu.system import loop_devices

SCRIPTS = {
    "Xen's": Path("/etc/xen/scripts/block"),
    "xenqemu's": Path(__file__).parent.parent / "hotplug" / "xenqemu-block",
}
XVDA = 51712
FIRST = 101
"""The id of the first guest."""

TIMEOUT = 40.0
"""Seconds after which libxl kills a script."""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--disks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / "lab")
        lab.up()
        try:
            images = [Path(folder) / f"{number}.img" for number in range(chosen.disks)]
            rounds = [
                {who: measure(lab, script, images) for who, script in SCRIPTS.items()}
                for _ in range(chosen.rounds)
            ]
        finally:
            lab.down()
    report(rounds, chosen.disks)


def measure(lab: Lab, script: Path, images: list[Path]) -> dict[str, float]:
    """Add all disks at once, then remove them so; return how long each took, in seconds."""
    with lab.store() as store:
        paths = [laid_out(store, FIRST + number, image) for number, image in enumerate(images)]
        took = {"add": at_once(lab, script, "add", paths)}
        check(store, paths, images)
        took["remove"] = at_once(lab, script, "remove", paths)
        for image in images:
            require(not loops(image), f"{image} has a loop device yet")
            require(lease.held(image) is None, f"{image} has a lease yet")
        store.remove("backend/vbd")
    return took


def laid_out(store: Store, domid: int, image: Path) -> str:
    """Make a guest with a disk that waits for its script, as libxl does; return XENBUS_PATH."""
    image.touch()
    os.truncate(image, 1 << 20)
    path = f"backend/vbd/{domid}/{XVDA}"
    store.write(f"/local/domain/{domid}/vm", f"/vm/00000000-0000-0000-0000-{domid:012}")
    nodes = {"params": str(image), "mode": "w", "type": "phy", "state": "2", "dev": "xvda"}
    for name, value in {**nodes, "frontend-id": str(domid)}.items():
        store.write(f"{path}/{name}", value)
    return path


def at_once(lab: Lab, script: Path, verb: str, paths: list[str]) -> float:
    """Run the script for all disks at once; return how long until the last is done."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [script, verb],
            env={
                **os.environ,
                "XENSTORED_PATH": str(lab.folder / "xenstored.socket"),
                "XENQEMU_PYTHON": sys.executable,
                "XENBUS_PATH": path,
                "XENBUS_TYPE": "vbd",
                "XENBUS_BASE_PATH": "backend",
            },
            cwd="/",
        )
        for path in paths
    ]
    codes = [process.wait(began + TIMEOUT - time.perf_counter()) for process in running]
    took = time.perf_counter() - began
    require(not any(codes), f"{script} {verb}: exit statuses {codes}")
    return took


def check(store: Store, paths: list[str], images: list[Path]) -> None:
    """See that each disk is connected, by a loop device of its own that is bound to its file."""
    for path, image in zip(paths, images, strict=True):
        found = [str(device.path) for device in loops(image)]
        node = store.read(f"{path}/node")
        require(found == [node], f"{image} has {found}, its guest was told {node}")
        status = store.read(f"{path}/hotplug-status")
        require(status == "connected", f"{path}: {status}")


def loops(image: Path) -> list[loop_devices.Loop]:
    """Return the loop devices that are bound to a file."""
    file = image.stat()
    return [each for each in loop_devices.bound() if each.file == (file.st_dev, file.st_ino)]


def require(right: bool, words: str) -> None:
    """End with `words` unless it is `right`."""
    if not right:
        raise SystemExit(words)


def report(rounds: list[dict[str, dict[str, float]]], disks: int) -> None:
    """Print medians and ratios."""
    print(f"{disks} disks at once, {len(rounds)} rounds, medians; each had a device of its own")
    for verb in ("add", "remove"):
        xen, ours = (statistics.median(each[who][verb] for each in rounds) for who in SCRIPTS)
        print(f"{verb:6} Xen's {xen:6.2f} s   xenqemu's {ours:6.2f} s   ratio {xen / ours:.2f}")


if __name__ == "__main__":
    main()
