"""A host with two guests whose disks and cards are connected by scripts."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.libxl_scripts import UUIDS, Libxl, loops
from tests.doubles.xen.xenstored import running
from xenqemu.host.xenstore.store import Store
from xenqemu.system import loop_devices


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test beside this one plays libxl: loop devices are the kernel's, and marked by the paths
    of their disks in xenstore, of which a real host has but one."""
    with (tmp_path_factory.getbasetemp().parent / "hotplug.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def libxl(alone: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Libxl]:
    """A host with two guests, 5 (web) and 6 (mail), and settings that give it locks of its own."""
    socket = tmp_path / "xenstored" / "socket"
    conf = tmp_path / "xenqemu.conf"
    conf.write_text(f'xen.journals = "{tmp_path}/run"\n')
    monkeypatch.setenv("XENQEMU_CONF", str(conf))
    with running(socket), Store(socket) as store:
        host = Libxl(socket, store, conf, tmp_path / "run" / "hotplug")
        host.domain(5, "web", UUIDS[5])
        host.domain(6, "mail", UUIDS[6])
        yield host


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A file that is a disk; no loop device is bound to it in the end."""
    path = tmp_path / "disk.img"
    path.write_bytes(b"first sector".ljust(512, b"\0") * 64)
    yield path
    for device in loops(path):
        loop_devices.detach(device.path)
