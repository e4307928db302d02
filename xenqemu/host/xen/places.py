"""Where the parties of a Xen host are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class XenPlaces:
    """Where the parties of a Xen host listen; no `xenstored` is where libxenstore looks.

    `journals` is where the operations that go on have theirs, and the hotplug scripts have their
    locks; a reboot has to empty it.
    """

    run: Path = Path("/var/run/xen")
    xenstored: Path | None = None
    journals: Path = Path("/run/xenqemu")


PLACES = XenPlaces()
"""Xen's own: XEN_RUN_DIR, where libxl has QEMU make its sockets, and xenstored's default."""
