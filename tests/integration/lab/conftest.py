"""Two lab hosts, and guests that were booted once and are restored for each test."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab.guests import CFG, FILL, LINUX, Guest, Host, Seed
from tests.integration.lab.migrations import BreakOff


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A folder for hosts and save files, in memory where possible."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="lab", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def _host(folder: Path) -> Iterator[Host]:
    host = Host(folder)
    host.lab.up()
    yield host
    host.lab.down()


@pytest.fixture(scope="session")
def first(room: Path) -> Iterator[Host]:
    """A host that is up for all tests; use `one`."""
    yield from _host(room / "one")


@pytest.fixture(scope="session")
def second(room: Path) -> Iterator[Host]:
    """Another; use `two`."""
    yield from _host(room / "two")


@pytest.fixture
def one(first: Host) -> Iterator[Host]:
    """A host without guests."""
    yield first
    first.clean()


@pytest.fixture
def two(second: Host) -> Iterator[Host]:
    """Another host without guests."""
    yield second
    second.clean()


@pytest.fixture
def folder(room: Path) -> Iterator[Path]:
    """An empty folder for save files."""
    made = Path(tempfile.mkdtemp(dir=room))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def seed(first: Host, room: Path) -> Seed:
    """A small Linux guest."""
    text = CFG.format(name="web", memory=256) + LINUX % 0
    return Seed.boot(first, text, room / "web.save")


@pytest.fixture(scope="session")
def big_seed(first: Host, room: Path) -> Seed:
    """A guest with RAM above the PCI hole too, most of it never touched."""
    text = CFG.format(name="big", memory=5120) + LINUX % FILL
    return Seed.boot(first, text, room / "big.save")


@pytest.fixture(scope="session")
def busy_seed(first: Host, room: Path) -> Seed:
    """A guest that rewrites 32 MiB again and again, and looks whether they are right."""
    text = CFG.format(name="busy", memory=256) + LINUX % 0
    return Seed.boot(first, text.replace("fill=0", "rewrite=32,128"), room / "busy.save")


@pytest.fixture(scope="session")
def devices_seed(first: Host, room: Path) -> Seed:
    """A guest with two vcpus, disks of all kinds, network cards and a screen."""
    for name, kind in (("hda", "raw"), ("sdb", "qcow2"), ("hdc", "raw")):
        image = room / f"{name}.{kind}"
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, image, "1M"], check=True)
    text = CFG.format(name="full", memory=256) + LINUX % 0
    text = text.replace('vga = "none"', 'vga = "stdvga"')
    text += "vcpus = 2\n"
    text += f'disk = ["{room}/hda.raw,raw,hda,w", "{room}/sdb.qcow2,qcow2,sdb,w", '
    text += f'"{room}/hdc.raw,raw,hdc,r,cdrom"]\n'
    text += 'vif = ["model=e1000,mac=00:16:3e:00:00:01", "model=rtl8139"]\n'
    return Seed.boot(first, text, room / "full.save")


@pytest.fixture(scope="session")
def firmware_record(first: Host, room: Path) -> Path:
    """The save file of a guest that has firmware alone: small, and there at once."""
    first.create(CFG.format(name="tiny", memory=16))
    first.must("save", "tiny", room / "tiny.save")
    return room / "tiny.save"


@pytest.fixture
def guest(seed: Seed, one: Host) -> Guest:
    """The small Linux guest, running on `one`."""
    return seed.on(one)


@pytest.fixture
def tiny(one: Host, firmware_record: Path) -> Guest:
    """A guest of firmware alone, running."""
    return one.restore(firmware_record)


@pytest.fixture
def break_off(tiny: Guest, one: Host, two: Host, folder: Path) -> BreakOff:
    """A function that migrates `tiny` over a way that breaks."""
    return BreakOff(one, two, folder)
