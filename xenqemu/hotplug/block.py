"""The disks of guests: block devices as they are, files by a loop device of their own.

::

    params   a block device (phy:), a file (file:), or nothing: a drive without a medium
    mode     w, or r

A device is connected only where Xen's sharing rules allow it (module `sharing`), a file that is
written only with its lease (module `lease` of the host).  Two scripts for one disk wait for each
other, those of different disks do not.  The path of the backend is the tag of the loop
device, so that it is found again whatever else is lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from xenqemu.errors import HostError, UsageError
from xenqemu.host.disk import lease
from xenqemu.host.disk.backing import Backing
from xenqemu.host.disk.lease import Owner
from xenqemu.hotplug import sharing
from xenqemu.hotplug.contract import Act, Backend, Device, serve
from xenqemu.system import loop_devices
from xenqemu.system.undo import undo_on_failure

_DEV = Path("/dev")
"""Where params that are no whole path are looked for."""

WRITTEN = ("physical-device", "physical-device-path", "node", "hotplug-status")


def chosen(_device: Device, _environment: Mapping[str, str], words: Sequence[str]) -> Act:
    """Return the act that the arguments name."""
    acts = {"add": add, "remove": remove}
    if len(words) != 1 or words[0] not in acts:
        raise UsageError(f"{' '.join(words)!r:.80}: expected add or remove")
    return acts[words[0]]


def add(backend: Backend) -> None:
    """Connect a disk; nothing if it is connected."""
    if backend.text("physical-device"):
        return
    params = backend.text("params")
    if not params:
        backend.connect({})
        return
    disk = _DEV / params
    writes = _writes(backend)
    backing = Backing.of(disk)
    undo = partial(backend.disconnect, WRITTEN)
    with _locked_disk(backend, backing), undo_on_failure(f"clear {backend.device.path}", undo):
        sharing.require_free(backend.store, backend.device, disk, backing, writes=writes)
        if disk.is_block_device():
            backend.connect(_device_nodes(disk, backing))
        else:
            _add_file(backend, disk, backing, writes=writes)


def remove(backend: Backend) -> None:
    """Disconnect a disk; nothing if that was done already, or it was never connected."""
    for device in loop_devices.bound():
        if device.tag == backend.device.path:
            loop_devices.detach(device.path)
    disk = _DEV / backend.text("params")
    if _writes(backend) and not disk.is_block_device():
        with _locked_disk(backend, Backing.of(disk)) if disk.is_file() else nullcontext():
            _release(backend, disk, Owner.here(""))
    backend.disconnect(WRITTEN)


def _add_file(backend: Backend, file: Path, backing: Backing, *, writes: bool) -> None:
    if writes and not file.stat().st_mode & 0o222:
        raise HostError(f"{file} is read-only, and no guest may write it")
    tag = backend.device.path
    with (
        _leased(backend, file) if writes else nullcontext(),
        loop_devices.attached(file, tag, writable=writes) as device,
    ):
        backend.connect({"node": str(device.path), **_device_nodes(device.path, backing)})


@contextmanager
def _leased(backend: Backend, file: Path) -> Iterator[None]:
    """Take the lease of a file; it is kept after the block, unless that fails."""
    guest = Owner.here(backend.vm)
    with undo_on_failure(f"release {file}", lambda: _release(backend, file, guest)):
        lease.take(file, guest, backend.deadlines, incoming=backend.incoming)
        yield


def _release(backend: Backend, file: Path, who: Owner) -> None:
    """Release the lease of a file, unless another device on this host needs it."""
    if lease.held(file) is None:
        return
    others = sharing.users(backend.store, Backing.of(file), backend.device) if file.exists() else ()
    if not any(user.writes for user in others):
        lease.release(file, who, backend.deadlines)


def _locked_disk(backend: Backend, backing: Backing) -> AbstractContextManager[None]:
    return backend.locked(f"disk-{backing.device:x}-{backing.inode:x}")


def _writes(backend: Backend) -> bool:
    return "w" in backend.text("mode")


def _device_nodes(device: Path, backing: Backing) -> dict[str, str]:
    """Return what libxl is told of a device, which lies on what was found free.

    Who may write to a folder on the way could have put another disk there meanwhile.
    """
    number = device.stat().st_rdev
    if Backing.of_device(number) != backing:
        raise HostError(f"{device}: the disk was replaced while it was connected")
    return {
        "physical-device": f"{os.major(number):x}:{os.minor(number):x}",
        "physical-device-path": str(device),
    }


if __name__ == "__main__":
    sys.exit(serve("vbd", chosen))
