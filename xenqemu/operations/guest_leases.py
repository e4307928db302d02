"""The leases of a guest's disk images in a migration: they follow the copy that may run.

The receiver's host is the next owner while the guest is being built there.  It claims them right
before it unpauses the guest, and keeps them after that; if the guest stays, its old host keeps
them.  So a copy that was given up cannot be unpaused, and the other one is the only owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.disk import lease
from xenqemu.host.protocol import Host


def images(config: DomainConfig) -> tuple[str, ...]:
    """Return the images of a guest that have a lease.

    Raises `HostError` if one cannot be read.
    """
    return tuple(str(image) for image in lease.images(config) if lease.held(image) is not None)


def claim(host: Host, uuid: str, paths: Sequence[str]) -> None:
    """Make this host the owner of the images; `InUse` if the guest was given up."""
    for path in paths:
        lease.claim(Path(path), host.owner(uuid), host.deadlines)


def keep(host: Host, uuid: str, paths: Sequence[str]) -> None:
    """Note that the guest is here for good; `InUse` if another host has it."""
    for path in paths:
        lease.keep(Path(path), host.owner(uuid), host.deadlines)


def moved(host: Host, uuid: str, paths: Sequence[str]) -> bool:
    """Return whether another host has noted that the guest is there for good."""
    return any(lease.moved(Path(path), host.owner(uuid)) for path in paths)
