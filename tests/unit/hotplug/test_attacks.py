"""The block script where others may write: beside images, on the way to them, to its locks.

The scripts run in mount and network namespaces of their own, as root.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.doubles.system.traps import OTHER, TRAPS, seen
from tests.doubles.xen.libxl_scripts import Libxl, holder, loops
from xenqemu.errors import HostError
from xenqemu.hotplug import block, sharing
from xenqemu.hotplug.contract import Backend, Device
from xenqemu.settings.xenqemu_conf import read_settings

OWN_NAMESPACES = ("unshare", "--mount", "--net", "--")

PROMPT = 20.0
"""Seconds that a script may take on a busy machine; what hangs takes its 32."""


@pytest.fixture
def apart(libxl: Libxl) -> Libxl:
    libxl.inside = OWN_NAMESPACES
    return libxl


@pytest.fixture
def shared(image: Path) -> Path:
    """The image, in a folder where everyone may make files."""
    image.parent.chmod(0o1777)
    return image


def beside(image: Path) -> dict[str, tuple[int, int, int]]:
    return {name: what for name, what in seen(image.parent).items() if name.startswith("disk.img")}


@pytest.mark.parametrize("suffix", ["", ".lock"])
@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_beside_the_image_fails_the_script_at_once(apart, shared, trap, suffix, tmp_path):
    lease = shared.with_name(f"disk.img.xenqemu-lease{suffix}")
    TRAPS[trap](lease, tmp_path / "target")
    before, target = beside(shared), (tmp_path / "target").exists()
    path = apart.disk(5, shared)
    started = time.monotonic()
    assert "disk.img.xenqemu-lease" in apart.refused(path, "add")
    assert time.monotonic() - started < PROMPT
    assert beside(shared) == before
    assert (tmp_path / "target").exists() == target
    assert list(loops(shared)) == []


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_beside_the_image_does_not_hang_a_removal(apart, shared, trap, tmp_path):
    path = apart.disk(5, shared)
    apart.good(path, "add")
    lease = shared.with_name("disk.img.xenqemu-lease")
    lease.unlink()
    TRAPS[trap](lease, tmp_path / "target")
    started = time.monotonic()
    apart.run(path, "remove")
    assert time.monotonic() - started < PROMPT
    assert list(loops(shared)) == []


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_in_the_place_of_the_draft_is_removed(apart, shared, trap, tmp_path):
    TRAPS[trap](shared.with_name("disk.img.xenqemu-lease.new"), tmp_path / "target")
    apart.good(apart.disk(5, shared), "add")
    assert holder(shared)
    assert beside(shared).keys() == {"disk.img", "disk.img.xenqemu-lease"}


def test_locks_that_others_could_take_are_not_used(apart, image):
    apart.locks.mkdir(parents=True, mode=0o777)
    apart.locks.chmod(0o777)
    why = apart.refused(apart.disk(5, image), "add")
    assert why == f"{apart.locks} must be owned by you and writable by nobody else"
    assert list(loops(image)) == []


def test_an_image_that_is_replaced_once_it_was_found_free(libxl, image, tmp_path, monkeypatch):
    """By one that is somebody else's: no guest gets it, and no device is left on it."""
    precious = tmp_path / "precious"
    precious.write_bytes(bytes(1 << 16))

    def swap(*arguments: object, **options: object) -> None:
        required(*arguments, **options)
        image.unlink()
        image.symlink_to(precious)

    required = sharing.require_free
    monkeypatch.setattr(sharing, "require_free", swap)
    path = libxl.disk(5, image)
    backend = Backend(Device("vbd", 5, 51712), libxl.store, read_settings())
    with pytest.raises(HostError, match="the disk was replaced while it was connected"):
        block.add(backend)
    assert "physical-device" not in libxl.nodes(path)
    assert list(loops(precious)) == []


def test_another_users_image_and_folder_work_as_before(apart, image):
    """Who has the image may have its lease too."""
    os.chown(image, OTHER, -1)
    path = apart.disk(5, image)
    apart.good(path, "add")
    os.chown(image.with_name("disk.img.xenqemu-lease"), OTHER, -1)
    apart.good(path, "remove")
    assert beside(image).keys() == {"disk.img"}
