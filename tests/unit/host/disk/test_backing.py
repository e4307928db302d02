"""What disks lie on, with real loop devices, mounts and device nodes."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xenqemu.errors import HostError
from xenqemu.host.disk.backing import Backing
from xenqemu.system import loop_devices


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(4 << 20)
    return path


@contextmanager
def bound(image: Path, *, writable: bool = True) -> Iterator[Path]:
    """Bind a loop device to a file for the block."""
    with loop_devices.attached(image, "test", writable=writable) as device:
        pass
    try:
        yield device.path
    finally:
        loop_devices.detach(device.path)


@contextmanager
def mounted(image: Path, options: str) -> Iterator[Path]:
    """Mount a file system on a loop device; give the device."""
    subprocess.run(["mke2fs", "-q", "-F", str(image)], check=True)
    place = image.parent / "mount"
    place.mkdir()
    with bound(image) as device:
        subprocess.run(["mount", "-o", options, str(device), str(place)], check=True)
        try:
            yield device
        finally:
            subprocess.run(["umount", str(place)], check=True)


def test_a_file_by_all_its_names(image: Path) -> None:
    found = Backing.of(image)
    assert found == Backing(image.stat().st_dev, image.stat().st_ino)
    assert found.is_file
    link = image.with_name("link")
    link.symlink_to(image)
    hard = image.with_name("hard")
    hard.hardlink_to(image)
    assert Backing.of(link) == Backing.of(hard) == found
    other = image.with_name("other")
    other.touch()
    assert Backing.of(other) != found


def test_a_loop_device_is_its_file(image: Path) -> None:
    with bound(image) as device:
        number = device.stat().st_rdev
        assert Backing.of(device) == Backing.of(image) == Backing.of_device(number)
    assert Backing.of(device) == Backing(number, 0)
    assert not Backing.of(device).is_file


def test_a_device_by_another_name(tmp_path: Path) -> None:
    disk = next(iter(sorted(Path("/sys/block").glob("[vs]d*"))))
    major, minor = map(int, (disk / "dev").read_text().split(":"))
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFBLK | 0o600, os.makedev(major, minor))
    assert Backing.of(node) == Backing.of(Path("/dev") / disk.name)
    assert Backing.of(node) == Backing(os.makedev(major, minor), 0)


@pytest.mark.parametrize(
    ("name", "why"), [("none", "none: No such file"), ("", "is neither a file nor a block device")]
)
def test_what_is_no_disk(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(HostError, match=why):
        Backing.of(tmp_path / name)


def test_a_number_without_a_device() -> None:
    assert Backing.of_device(os.makedev(250, 99)) == Backing(os.makedev(250, 99), 0)
    with pytest.raises(HostError, match="there is no block device 250:99"):
        Backing(os.makedev(250, 99), 0).used_here(writable=True)
    assert Backing.of_device(os.makedev(7, 9999)) == Backing(os.makedev(7, 9999), 0)


def test_what_nobody_uses(image: Path) -> None:
    assert Backing.of(image).used_here(writable=True) == ""
    with bound(image) as device:
        assert Backing.of(device).used_here(writable=True) == ""
        assert Backing.of(image).used_here(writable=True) == ""


def test_mounted_to_be_written(image: Path) -> None:
    with mounted(image, "rw") as device:
        for path in (image, device):
            for writable in (True, False):
                used = Backing.of(path).used_here(writable=writable)
                assert used == f"it is mounted on {image.parent}/mount"
    assert Backing.of(image).used_here(writable=True) == ""


def test_mounted_to_be_read_may_be_read(image: Path) -> None:
    with mounted(image, "ro") as device:
        assert Backing.of(device).used_here(writable=False) == ""
        assert "is mounted on" in Backing.of(device).used_here(writable=True)


def test_a_device_that_is_held_for_somebody(image: Path) -> None:
    with bound(image) as device:
        holder = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            assert "this host uses it" in Backing.of(image).used_here(writable=True)
            assert Backing.of(image).used_here(writable=False) == ""
        finally:
            os.close(holder)
