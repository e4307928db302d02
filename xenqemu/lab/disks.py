"""The disk images of the lab's guests: who may have one, on this host and beside others.

The rules are those of a Xen host's block script: a guest that writes a disk has it alone, and has
its lease (`xenqemu.host.disk.lease`) as long as its QEMU runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from xenqemu.errors import InUse
from xenqemu.formats.config.domain_config import Disk, DomainConfig
from xenqemu.host.disk import lease
from xenqemu.host.disk.backing import Backing
from xenqemu.host.disk.lease import Owner
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xenstore.names import INCOMING

Domain = tuple[str, DomainConfig]
"""The id of a domain, and what it was made from."""


def taken(config: DomainConfig, others: Iterable[Domain]) -> Iterator[InUse]:
    """Yield each disk that is another guest's, and who has it."""
    theirs = [
        (backing, disk, f"domain {domid} ({other.name})")
        for domid, other in others
        for backing, disk in _backings(other)
    ]
    for backing, disk in _backings(config):
        for their_backing, their_disk, who in theirs:
            if backing == their_backing and (disk.readwrite or their_disk.readwrite):
                how = "written" if their_disk.readwrite else "read"
                yield InUse(f"{disk.target} is in use by {who} as {their_disk.vdev}, to be {how}")


def take(config: DomainConfig, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
    """Take the leases of all images that the guest writes; raise `InUse` if another host has one.

    A guest that is migrating to this host becomes the next owner.  If a lease cannot be taken,
    `release` those that were.
    """
    incoming = config.name.endswith(INCOMING)
    for image in lease.images(config):
        lease.take(image, who, deadlines, incoming=incoming)


def release(config: DomainConfig, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
    """Release all leases of a guest; may be repeated, and where images are gone."""
    for image in lease.images(config):
        if lease.held(image) is not None:
            lease.release(image, who, deadlines)


def _backings(config: DomainConfig) -> Iterator[tuple[Backing, Disk]]:
    """Yield what the disks lie on, without those whose image is gone."""
    for disk in config.disks:
        if disk.target and Path(disk.target).exists():
            yield Backing.of(Path(disk.target)), disk
