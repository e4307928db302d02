"""What a disk is stored on, whatever its path, and whether this host uses it itself.

An image and the loop devices on it are one: a guest that has /dev/loop3 and one that has the file
share a disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.frozen import Frozen
from xenqemu.system import loop_devices


class Backing(Frozen):
    """A file by (st_dev, st_ino), or a block device by (st_rdev, 0)."""

    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Backing:
        """Return what a path names.

        Raises `HostError` if there is nothing, or neither a regular file nor a block device.
        """
        try:
            found = path.stat()
        except OSError as error:
            raise HostError(f"{path}: {error.strerror}") from error
        if stat.S_ISREG(found.st_mode):
            return cls(found.st_dev, found.st_ino)
        if stat.S_ISBLK(found.st_mode):
            return cls.of_device(found.st_rdev)
        raise HostError(f"{path} is neither a file nor a block device")

    @classmethod
    def of_device(cls, number: int) -> Backing:
        """Return what a block device of this number lies on: a file, for a bound loop device."""
        node = _node(number) if os.major(number) == loop_devices.MAJOR else None
        bound = loop_devices.status(node) if node else None
        return cls(*bound.file) if bound else cls(number, 0)

    @property
    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.inode != 0

    def used_here(self, *, writable: bool) -> str:
        """Return how this host itself uses it, "" if a guest may have it.

        A guest may write to it if neither it nor a part of it is mounted, swap, or part of another
        device; a guest may read it if it is not mounted read-write.
        """
        for number in self._devices():
            for place, writes in _mounts(number):
                if writes or writable:
                    return f"it is mounted on {place}"
            if writable and _is_claimed(number):
                return "this host uses it (swap, a device mapper, a RAID, or a partition of it)"
        return ""

    def _devices(self) -> list[int]:
        """Return the numbers of the block devices that lie on it."""
        if not self.is_file:
            return [self.device]
        on_it = (bound for bound in loop_devices.bound() if bound.file == (self.device, self.inode))
        return [bound.path.stat().st_rdev for bound in on_it]


def _mounts(number: int) -> Iterator[tuple[str, bool]]:
    """Yield where a block device is mounted and whether it may be written there (proc(5))."""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        mount, _, source = line.partition(" - ")
        fields = mount.split(" ")
        if fields[2] == _numbers(number):
            yield fields[4], source.split(" ")[2].split(",")[0] == "rw"


def _is_claimed(number: int) -> bool:
    """Return whether the kernel holds a device, or a part of it, for somebody: open(2), O_EXCL."""
    node = _node(number)
    if node is None:
        raise HostError(f"there is no block device {_numbers(number)}")
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise HostError(f"{node}: {error.strerror}") from error
    return False


def _node(number: int) -> Path | None:
    """Return the kernel's own name for a block device, None if there is none."""
    try:
        words = Path(f"/sys/dev/block/{_numbers(number)}/uevent").read_text()
    except FileNotFoundError:
        return None
    names = dict(line.split("=", 1) for line in words.splitlines())
    return Path("/dev") / names["DEVNAME"]


def _numbers(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"
