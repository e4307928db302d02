"""The options of each operation, for functions, commands and the operations themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xenqemu.errors import UsageError
from xenqemu.formats.migration.stream_chunks import MOST
from xenqemu.formats.stream.layout import Layout
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.option import documented, option
from xenqemu.system.key_file import read_key
from xenqemu.system.writers import trusted_ids

if TYPE_CHECKING:
    from xenqemu.formats.config.domain_config import DomainConfig
    from xenqemu.host.protocol import Host
    from xenqemu.settings.xenqemu_conf import Save

MOST_CLONES = 1000
"""Clones that are made at once at most."""

KEEP_DOMID = "Preserve the domain id."
KEY_TEXT = "File with the key of the seal, 1 to 64 bytes."
_TIMEOUT = "Deadline for all of it, up to the point of no return."


class After(Enum):
    """What becomes of the guest once it is saved."""

    DESTROY = "destroy"
    CONTINUE = "continue"
    PAUSE = "pause"


@documented
@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """How a domain is saved."""

    after: After = option(
        After.DESTROY,
        "What becomes of the domain.",
        choices={
            "-c": (After.CONTINUE, "Leave domain running after creating the snapshot."),
            "-p": (After.PAUSE, "Leave domain paused after creating the snapshot."),
        },
    )
    keep_domid: bool = option(False, KEEP_DOMID, flag="-D")
    config: DomainConfig | None = option(
        None, "Put this config in the file instead of the domain's own.", metavar="CFG"
    )
    precopy: PrecopyOptions | None = option(
        None, "Save the domain while it runs.", flag="--live", nested=PrecopyOptions
    )
    moment: bool = option(
        True,
        "Write it in iterations, even where QEMU can save it as of one moment (with -c).",
        flag="--precopy",
    )
    compress: int | None = option(
        None,
        "Compress the save file by zstd, as fast as its target is: a fast one gets it as it is. "
        "With =LEVEL, 1 (fast) to 19 (small), all that gets smaller is compressed so.",
        flag="--compress",
        metavar="LEVEL",
        least=1,
        most=19,
    )
    layout: Layout = option(
        Layout.ALIGNED,
        "How pages lie in the file: each on a multiple of 4096 (aligned), or as xl writes (xl).",
        flag="--layout",
        metavar="LAYOUT",
    )
    base: Path | None = option(
        None,
        "Share with FILE, an older save file, what is the same in both (on XFS, btrfs).",
        flag="--base",
        metavar="FILE",
    )
    compact: bool = option(False, "Drop superseded pages.", flag="--compact")
    verify: bool = option(True, "Do not read the save file back.", flag="--no-verify")
    seal: bool = option(True, "Do not seal the save file.", flag="--no-seal")
    key_file: Path | None = option(None, KEY_TEXT, flag="--key-file", metavar="FILE")
    timeout: float | None = option(None, _TIMEOUT, flag="--timeout", metavar="TIME", least=1)


@documented
@dataclass(frozen=True, kw_only=True)
class CloneOptions:
    """How clones are made of a save file."""

    name: str | None = option(
        None,
        "Name of the clone, or what the names of several begin with (default: that of the "
        "guest, and -clone).",
        flag="--name",
        metavar="CLONE",
    )
    count: int = option(
        1, "Make so many, numbered from 1.", flag="--count", metavar="N", least=1, most=MOST_CLONES
    )
    disks: tuple[str, ...] = option(
        (),
        "Another file for the disk VDEV; {name} in it is the name of the clone. May be repeated.",
        flag="--disk",
        metavar="VDEV=FILE",
    )


@documented
@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How a domain is restored."""

    paused: bool = option(False, "Do not unpause domain after restoring it.", flag="-p")
    monitor: bool = option(
        True, "Do not wait in the background for the death of the domain.", flag="-e"
    )
    config: DomainConfig | None = option(
        None, "Use this config instead of the one in the file.", metavar="CFG"
    )
    clone: CloneOptions | None = option(
        None,
        "Make clones: with another name, uuid, addresses and disks that others do not write.",
        flag="--clone",
        nested=CloneOptions,
    )
    seal: bool = option(True, "Do not check the seal of the save file.", flag="--no-seal")
    key_file: Path | None = option(None, KEY_TEXT, flag="--key-file", metavar="FILE")
    strict_disks: bool = option(
        False, "Refuse if a disk image was changed after the save.", flag="--strict-disks"
    )
    timeout: float | None = option(None, _TIMEOUT, flag="--timeout", metavar="TIME", least=1)


@documented
@dataclass(frozen=True, kw_only=True)
class MigrateOptions:
    """How a domain is migrated to another host."""

    command: str | tuple[str, ...] = option(
        "ssh",
        "Use CMD instead of ssh. String will be passed to sh. If empty, run HOST instead of "
        "ssh HOST xl migrate-receive [-d -e].",
        flag="-s",
        metavar="CMD",
    )
    config: DomainConfig | None = option(
        None, "Send CFG instead of config file from creation.", flag="-C", metavar="CFG"
    )
    monitor: bool = option(
        True, "Do not wait in the background (on HOST) for the death of the domain.", flag="-e"
    )
    paused: bool = option(False, "Do not unpause domain after migrating it.", flag="-p")
    keep_domid: bool = option(False, KEEP_DOMID, flag="-D")
    precopy: PrecopyOptions | None = option(
        PrecopyOptions(),
        "Send the domain while it runs, as with xl; --no-live may take less time.",
        flag="--live",
        nested=PrecopyOptions,
    )
    compress: bool = option(False, "Compress the save file on the way.", flag="--compress")
    streams: int = option(
        1,
        "Send the save file over N streams, each by a command of its own.",
        flag="--streams",
        metavar="N",
        least=1,
        most=MOST,
    )
    timeout: float | None = option(None, _TIMEOUT, flag="--timeout", metavar="TIME", least=1)


@documented
@dataclass(frozen=True, kw_only=True)
class ReceiveOptions:
    """How a domain is received from another host."""

    monitor: bool = option(
        True, "Do not wait in the background for the death of the domain.", flag="-e"
    )
    paused: bool = option(False, "Do not unpause domain after receiving it.", flag="-p")
    timeout: float | None = option(None, _TIMEOUT, flag="--timeout", metavar="TIME", least=1)


class Timed(Protocol):
    """Options of an operation that is to end in time."""

    @property
    def timeout(self) -> float | None:
        """Seconds for all of it, None for what the host's deadlines say."""


class Sealed(Protocol):
    """Options of an operation on a save file that may be sealed with a key."""

    @property
    def seal(self) -> bool:
        """Whether seals are made and checked."""

    @property
    def key_file(self) -> Path | None:
        """The file of the key."""


def save_options(said: Save) -> SaveOptions:
    """Return how the settings have domains saved."""
    return SaveOptions(verify=said.verify, layout=said.layout, key_file=said.key_file)


def key_file_for(options: Sealed, said: Save) -> Path | None:
    """Return the file of the key: where `options` name none, and there is a seal, the settings'."""
    return options.key_file or (said.key_file if options.seal else None)


def key_for(host: Host, options: Sealed) -> bytes | None:
    """Return the key of the seal, None for a seal without one; raise as `read_key` does."""
    if options.key_file is None:
        return None
    if not options.seal:
        raise UsageError("--key-file goes without --no-seal")
    return read_key(options.key_file, trusted_ids(host.trust.owners))


def seconds_for(host: Host, options: Timed) -> float:
    """Return how many seconds an operation may take, up to its point of no return."""
    if options.timeout is None:
        return host.deadlines.operation
    return options.timeout
