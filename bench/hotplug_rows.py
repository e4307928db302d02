"""Disks that are all added, then all removed, at once: xenqemu-block beside Xen's block script.

Each disk is a file of a guest of its own, in the xenstore of a lab host; the scripts are started as
libxl starts them, and make real loop devices.  After each turn it is seen that every disk had one
of its own, and that none is left.  `bench/hotplug_in_dom0` does the same on a Xen host.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from functools import cache, partial
from pathlib import Path

from debian_python import PYTHON, environment
from lab_guests import ROOT
from row import Bench, Row, Values

from xenqemu.host.disk import lease
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.lab_host import Lab
from xenqemu.system import loop_devices

XENS = Path("/etc/xen/scripts/block")
OURS = ROOT / "hotplug" / "xenqemu-block"
DISKS = 20
XVDA = 51712
FIRST = 101
"""The id of the first guest."""

TIMEOUT = 40.0
"""Seconds after which libxl kills a script."""


@cache
def measured(rounds: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Return how long ours and Xen's took in each round, to add and to remove."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Path(folder) / "lab")
        lab.up()
        try:
            images = [Path(folder) / f"{number}.img" for number in range(DISKS)]
            return [(measure(lab, OURS, images), measure(lab, XENS, images)) for _ in range(rounds)]
        finally:
            lab.down()


def row(verb: str, bench: Bench) -> Values:
    """Return how long one act took."""
    took = measured(bench.rounds)
    return Values([ours[verb] for ours, _ in took], [xens[verb] for _, xens in took])


def no_scripts() -> str:
    """Return why disks cannot be connected here."""
    if os.geteuid():
        return "only root makes loop devices"
    missing = [path for path in (XENS, Path("/dev/loop-control")) if not path.exists()]
    return f"there is no {missing[0]}" if missing else ""


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
                **environment(),
                "XENSTORED_PATH": str(lab.folder / "xenstored.socket"),
                "XENQEMU_PYTHON": PYTHON,
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
    """Raise `RuntimeError` with `words` unless it is `right`."""
    if not right:
        raise RuntimeError(words)


HOTPLUG_ROWS = tuple(
    Row(
        *(f"hotplug-{verb}", f"{DISKS} disks at once, {verb}", "Xen's script"),
        *(">= 1.0 of its speed", partial(row, verb), no_scripts),
    )
    for verb in ("add", "remove")
)
