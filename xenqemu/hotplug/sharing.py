"""Who may have a disk: one guest that writes it, or any number that only read it.

A guest is identified by its uuid, so that a migration within the host, and a stub domain beside its
guest, find their disk free (check_sharing and same_vm in Xen's block script).  What counts is what
the disks lie on (`Backing`), whichever backend and whichever script has connected them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import HostError, InUse
from xenqemu.frozen import Frozen
from xenqemu.host.disk.backing import Backing
from xenqemu.host.xenstore.store import Store
from xenqemu.hotplug.contract import Device

KINDS = ("vbd", "vbd3", "qdisk")
"""The backends of disks: blkback's, tapdisk's, QEMU's."""

_NUMBERS = re.compile(r"([0-9a-f]{1,3}):([0-9a-f]{1,5})", re.ASCII)


class User(Frozen):
    """A device that has a disk."""

    path: str
    domid: str
    writes: bool


def users(store: Store, backing: Backing, beside: Device) -> Iterator[User]:
    """Yield the devices on this host that have a disk, without the one at hand."""
    for kind in KINDS:
        for domid in store.list(f"backend/{kind}") or ():
            for devid in store.list(f"backend/{kind}/{domid}") or ():
                path = f"backend/{kind}/{domid}/{devid}"
                if path != beside.path and _lies_on(store, path) == backing:
                    yield User(path, domid, "w" in (store.read(f"{path}/mode") or ""))


def require_free(
    store: Store, device: Device, disk: Path, backing: Backing, *, writes: bool
) -> None:
    """Raise `InUse`, naming who has the disk, unless the device may have it too."""
    ours = _vms(store, str(device.domid))
    for user in users(store, backing, device):
        theirs = _vms(store, user.domid)
        if (writes or user.writes) and theirs and not ours & theirs:
            raise InUse(f"{disk} is in use by {_named(store, user)}")
    used = backing.used_here(writable=writes)
    if used:
        raise InUse(f"{disk} cannot be given to a guest: {used}")


def _lies_on(store: Store, path: str) -> Backing | None:
    """Return what the disk of a device lies on; None if that is nothing of this host, or not yet.

    QEMU has no number to tell: its params are FORMAT:FILE.
    """
    number = store.read(f"{path}/physical-device")
    if number:
        match = _NUMBERS.fullmatch(number)
        if match is None:
            raise HostError(f"{path}/physical-device is {number!r:.80}, expected MAJOR:MINOR")
        return Backing.of_device(os.makedev(int(match[1], 16), int(match[2], 16)))
    if not path.startswith("backend/qdisk/"):
        return None
    file = (store.read(f"{path}/params") or "").partition(":")[2]
    try:
        return Backing.of(Path(file)) if file.startswith("/") and "\0" not in file else None
    except HostError:  # gone, or no file: not the disk that we are about to connect
        return None


def _vms(store: Store, domid: str) -> set[str]:
    """Return the guest that a domain is, and the one that it serves; none if it is gone."""
    home = f"/local/domain/{domid}"
    target = store.read(f"{home}/target")
    paths = [f"{home}/vm", *([f"/local/domain/{target}/vm"] if target else [])]
    return {vm for vm in map(store.read, paths) if vm}


def _named(store: Store, user: User) -> str:
    name = store.read(f"/local/domain/{user.domid}/name") or "unnamed"
    vdev = store.read(f"{user.path}/dev") or user.path
    return f"domain {user.domid} ({name}) as {vdev}, to be {'written' if user.writes else 'read'}"
