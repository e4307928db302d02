"""Paths of a Xen host."""

from __future__ import annotations

from pathlib import Path

from xenqemu.frozen import Frozen


class XenPaths(Frozen):
    """Where the parties of a Xen host listen; for `xenstored`, None is libxenstore's default.

    `journals` is the folder of the journals of running operations and of the locks of the hotplug
    scripts; a reboot has to empty it.
    """

    run: Path = Path("/var/run/xen")
    xenstored: Path | None = None
    journals: Path = Path("/run/xenqemu")


XEN_PATHS = XenPaths()
"""Xen's own: XEN_RUN_DIR, where libxl has QEMU make its sockets, and xenstored's default."""
