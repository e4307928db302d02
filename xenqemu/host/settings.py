"""What an administrator may choose: /etc/xenqemu/xenqemu.conf as one object.

etc/xenqemu.conf holds every key with its default and what it means.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from xenqemu.host.hooks import Hooks
from xenqemu.host.policy import PATIENCE, Deadlines


@dataclass(frozen=True)
class XenPlaces:
    """Where the parties of a Xen host listen; no `xenstored` is where libxenstore looks.

    `ledger` is where the operations that go on are noted; a reboot has to empty it.
    """

    run: Path = Path("/var/run/xen")
    xenstored: Path | None = None
    ledger: Path = Path("/run/xenqemu")


PLACES = XenPlaces()
"""Xen's own: XEN_RUN_DIR, where libxl has QEMU make its sockets, and xenstored's default."""


@dataclass(frozen=True)
class Save:
    """How each domain is saved: `verify` reads a record back before its guest is let go."""

    verify: bool = True


@dataclass(frozen=True)
class SaveAll:
    """What `save-all` does, so many domains at once, all within `deadline` seconds.

    What is not saved by then, and what `shut_down` names, is shut down, in `shutdown_deadline`
    seconds; what `leave` names is left alone.
    """

    folder: Path = Path("/var/lib/xenqemu/save")
    parallel: int = 2
    deadline: float = 300.0
    shutdown_deadline: float = 120.0
    shut_down: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestoreAll:
    """What `restore-all` does: those of `first` come first; each has `proof` seconds to run."""

    first: tuple[str, ...] = ()
    proof: float = 30.0


@dataclass(frozen=True)
class Settings:
    """All of it; `host` is in the words of `--host`, no `lab` is a folder of one's own."""

    host: str = "auto"
    lab: Path | None = None
    xen: XenPlaces = PLACES
    deadlines: Deadlines = PATIENCE
    save: Save = Save()
    hooks: Hooks = field(default_factory=Hooks)
    save_all: SaveAll = SaveAll()
    restore_all: RestoreAll = RestoreAll()
