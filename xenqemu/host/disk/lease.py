"""A lease beside a disk image: which host's guest may write it, where hosts share a storage.

::

    IMAGE.xenqemu-lease        {"owner": OWNER, "next_owner": OWNER or null}, as JSON
    IMAGE.xenqemu-lease.new    the next one, being written
    IMAGE.xenqemu-lease.lock   there while somebody looks at the lease or changes it
    OWNER                      {"host", "boot", "vm", "since"}

    (none)             --take-->     owner               one guest begins to use the image
    owner              --take-->     owner, next owner   it is being built on the next owner's host
                                                         too, and is paused there
    owner, next owner  --claim-->    they change places  by the next owner, before it lets the guest
                                                         run: the point of no return
    owner, next owner  --keep-->     owner               the migration is over, by who has the guest
    owner, next owner  --release-->  the other, as owner its copy is gone
    owner              --release-->  (none)

A host knows its own guests by its xenstore; so it may take over its own lease at any time, also
one that it left when it crashed: then the lease names a former boot.  It cannot know whether
another host is still up, so it refuses another host's lease; if that host is gone for good, an
administrator has to remove the file.  A place in a lease during a migration is valid only as long
as its host stays up: an owner that crashed meanwhile must ask whether the next owner became the
guest, a next owner has to be built again.

A migration is recognised by the name of the domain while it is being built, NAME--incoming, with xl
(xl_migrate.c) and with us.  xl never claims: there the old host's `release` completes the
migration.

All functions follow symbolic links, may be repeated, and raise `HostError` where the lease cannot
be read or written, `HostTimeout` where its lock is held for long.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.errors import HostError, InUse
from xenqemu.frozen import Frozen
from xenqemu.host.disk.lease_file import LONGEST, SUFFIX, LeaseFile, lease_file
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.system.process import boot_id

if TYPE_CHECKING:  # hotplug scripts, which start anew for each disk, do without it
    from xenqemu.formats.config.domain_config import DomainConfig


class Owner(Frozen):
    """A guest on a host: `boot` is the host's boot, `since` when it got its place in a lease."""

    host: str
    boot: str
    vm: str
    since: str = ""

    @classmethod
    def here(cls, vm: str, place: str = "") -> Owner:
        """Return the guest of this uuid on this machine; `place` tells hosts on it apart."""
        return cls(host_id(place), boot_id(), vm.lower())

    def __str__(self) -> str:
        """As errors name it."""
        return f"domain {self.vm} on host {self.host}"


class Lease(Frozen):
    """Who may write an image, and who may once the owner has released it."""

    owner: Owner
    next_owner: Owner | None = None


def host_id(place: str = "") -> str:
    """Return what names this host among those that share its storage: its name and machine-id(5).

    The name tells machines apart that were made of one image.
    """
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except FileNotFoundError:
        machine = ""
    return "/".join(filter(None, (os.uname().nodename, machine, place)))


def held(image: Path) -> Lease | None:
    """Return the lease of an image, None if nobody has it."""
    try:
        with lease_file(image) as file:
            return _read(file)
    except HostError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def take(
    image: Path, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES, *, incoming: bool = False
) -> None:
    """Become the owner, or the next owner if the same guest has it elsewhere and migrates here.

    That it migrates is known to the caller (`incoming`), or from its being the next owner already.
    The caller checks whether the image is free on this host.  Raises `InUse`, naming who has it.
    """
    with _changing(image, deadlines) as file:
        lease = _read(file)
        if lease is None:
            _write(file, Lease(_now(who)))
        elif lease.owner.host == who.host:
            _refuse_beside_next_owner(file, lease, who)
            _write(file, lease.but(owner=_now(who)))
        elif lease.owner.vm == who.vm and (incoming or _is_next_owner(lease, who)):
            _write(file, lease.but(next_owner=_now(who)))
        else:
            raise _in_use(file, lease.owner)


def claim(image: Path, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
    """Change places with the owner: from now on the guest may run here.

    Nothing if `who` is the owner already.  Raises `InUse` if it is not in the lease (any more).
    """
    with _changing(image, deadlines) as file:
        lease = _read(file)
        if lease is None:
            raise InUse(f"{image} is no longer leased to {who}: {file.path} was removed")
        part = _part(file, lease, who)
        if part != lease.owner:
            _write(file, Lease(_now(part), lease.owner))


def keep(image: Path, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
    """Become the only one in the lease: the migration is over, and `who` has the guest.

    Nothing if there is no lease any more.  Raises `InUse` if `who` is not in it.
    """
    with _changing(image, deadlines) as file:
        lease = _read(file)
        if lease is not None and lease != (only := Lease(_part(file, lease, who))):
            _write(file, only)


def moved(image: Path, who: Owner) -> bool:
    """Return whether the guest has left `who` for good: only another host has its image."""
    lease = held(image)
    if lease is None or _is_held(lease, who):
        return False
    return lease.owner.vm == who.vm and not _is_next_owner(lease, who)


def release(image: Path, who: Owner, deadlines: Deadlines = DEFAULT_DEADLINES) -> None:
    """Remove `who` from the lease; nothing if it is not in it.

    If `who` names no guest, any guest of its host is removed.  What the host has from a former boot
    is left: somebody may have become its next owner.
    """
    with _changing(image, deadlines) as file:
        lease = _read(file)
        if lease is None:
            return
        if _is_of(lease.owner, who):
            _write(file, Lease(lease.next_owner) if lease.next_owner else None)
        elif lease.next_owner is not None and _is_of(lease.next_owner, who):
            _write(file, lease.but(next_owner=None))


def _is_of(owner: Owner, who: Owner) -> bool:
    return (owner.host, owner.boot) == (who.host, who.boot) and who.vm in ("", owner.vm)


def _refuse_beside_next_owner(file: LeaseFile, lease: Lease, who: Owner) -> None:
    """Raise `InUse` if the next owner may be the guest: we rebooted, or are another one."""
    if lease.next_owner and (lease.owner.boot != who.boot or lease.next_owner.vm != who.vm):
        raise _in_use(file, lease.next_owner)


def _is_held(lease: Lease, who: Owner) -> bool:
    return (lease.owner.host, lease.owner.vm) == (who.host, who.vm)


def _is_next_owner(lease: Lease, who: Owner) -> bool:
    return lease.next_owner is not None and _is_of(lease.next_owner, who)


def _part(file: LeaseFile, lease: Lease, who: Owner) -> Owner:
    """Return what `who` is in a lease; raise `InUse`, naming who has it, if that is nothing."""
    if _is_held(lease, who):
        return lease.owner
    if lease.next_owner is None or not _is_of(lease.next_owner, who):
        raise _in_use(file, lease.owner)
    return lease.next_owner


def _in_use(file: LeaseFile, owner: Owner) -> InUse:
    image = file.path.with_name(file.path.name.removesuffix(SUFFIX))
    return InUse(
        f"{image} is leased to {owner} since {owner.since}; "
        f"if that host is gone for good, remove {file.path}"
    )


def _now(who: Owner) -> Owner:
    return who.but(since=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


def images(config: DomainConfig) -> Iterator[Path]:
    """Yield the images that a guest writes; a device on the storage itself has no lease."""
    for disk in config.disks:
        if disk.target and disk.readwrite and not Path(disk.target).is_block_device():
            yield Path(disk.target)


@contextmanager
def _changing(image: Path, deadlines: Deadlines) -> Iterator[LeaseFile]:
    """Hold the lock of the lease for the block, and yield its file."""
    with lease_file(image) as file, file.locked(deadlines.lease_lock):
        yield file


def _read(file: LeaseFile) -> Lease | None:
    text = file.read()
    if text is None:
        return None
    try:
        return _parsed(json.loads(text[:LONGEST]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = "is damaged; if no guest uses the image, remove it"
        raise HostError(f"{file.path} {why}") from error


def _parsed(tree: Mapping[str, Any]) -> Lease:
    next_owner = tree["next_owner"]
    return Lease(_owner(tree["owner"]), None if next_owner is None else _owner(next_owner))


def _owner(tree: Mapping[str, Any]) -> Owner:
    owner = Owner(**tree)
    if not all(isinstance(value, str) for value in tree.values()):
        raise TypeError
    return owner


def _write(file: LeaseFile, lease: Lease | None) -> None:
    """Replace the lease; remove it if there is none any more."""
    if lease is None:
        file.remove()
    else:
        file.write(f"{json.dumps(vars(lease), default=vars, indent=1)}\n".encode())
