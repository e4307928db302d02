"""libxl's side of the hotplug contract: guests and devices in xenstore, scripts run as it does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xenqemu.host.disk import lease
from xenqemu.host.xenstore.store import Store
from xenqemu.system import loop_devices

ROOT = Path(__file__).parents[3]
SCRIPTS = {"vbd": ROOT / "hotplug" / "xenqemu-block", "vif": ROOT / "hotplug" / "xenqemu-vif"}
XVDA = 51712
UUIDS = [f"9233e52c-49ca-454f-96be-{number:012x}" for number in range(100)]


class Done(NamedTuple):
    """How a script ended."""

    code: int
    err: str


@dataclass
class Libxl:
    """One host's libxl: its xenstore, and how it runs scripts; their settings and locks."""

    socket: Path
    store: Store
    conf: Path
    locks: Path
    inside: tuple[str, ...] = ()
    """What runs the scripts: a command that runs its arguments."""

    def domain(self, domid: int, name: str, uuid: str) -> None:
        home = f"/local/domain/{domid}"
        self.store.write(f"{home}/name", name)
        self.store.write(f"{home}/vm", f"/vm/{uuid}")
        self.store.mkdir(f"{home}/device")

    def disk(self, domid: int, params: object, mode: str = "w", devid: int = XVDA) -> str:
        """Lay out a disk that waits for its script; return XENBUS_PATH."""
        return self.device("vbd", domid, devid, params=str(params), mode=mode, dev="xvda")

    def device(self, kind: str, domid: int, devid: int, **nodes: str) -> str:
        path = f"backend/{kind}/{domid}/{devid}"
        given = {"frontend-id": str(domid), "online": "1", "state": "2", **nodes}
        for name, value in given.items():
            self.store.write(f"{path}/{name.replace('_', '-')}", value)
        return path

    def environment(self, path: str, **more: str) -> dict[str, str]:
        kind = path.split("/")[1]
        ours = {"XENBUS_PATH": path, "XENBUS_TYPE": kind, "XENBUS_BASE_PATH": "backend"}
        return {
            **os.environ,
            "XENSTORED_PATH": str(self.socket),
            "XENQEMU_PYTHON": sys.executable,
            "script": str(SCRIPTS[kind]),
            **ours,
            **more,
        }

    def start(self, path: str, *words: str, **more: str) -> subprocess.Popen[str]:
        """Start a device's script as libxl does."""
        environment = self.environment(path, **more)
        return subprocess.Popen(
            [*self.inside, environment["script"], *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def run(self, path: str, *words: str, **more: str) -> Done:
        """Run a device's script to its end; it prints nothing."""
        with self.start(path, *words, **more) as script:
            out, err = script.communicate(timeout=100)
        assert out == ""
        return Done(script.returncode, err)

    def good(self, path: str, *words: str, **more: str) -> None:
        assert self.run(path, *words, **more) == (0, "")

    def refused(self, path: str, *words: str, **more: str) -> str:
        """Run a script that fails; return why, which it has told libxl as well."""
        done = self.run(path, *words, **more)
        kind = path.split("/")[1]
        why = self.nodes(path)["hotplug-error"]
        assert done == (1, f"xenqemu-{kind}: {why}\n")
        return why

    def nodes(self, path: str) -> Mapping[str, str]:
        return self.store.tree(path)


def loops(image: Path) -> list[loop_devices.Loop]:
    """Return the loop devices that are bound to a file."""
    file = image.stat()
    return [each for each in loop_devices.bound() if each.file == (file.st_dev, file.st_ino)]


def holder(image: Path) -> str | None:
    """Return the guest that has the lease of an image."""
    found = lease.held(image)
    return found and found.owner.vm
