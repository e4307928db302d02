"""Where the host's own libxl-save-helper is, and its environment."""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.formats.helper.dialects import Version

VARIABLE = "LIBXL_SAVE_HELPER"
"""Where libxl looks for a save helper other than its own."""

NAME = "libxl-save-helper"
FOLDERS = (
    "/usr/lib/xen-{}/bin",
    "/usr/libexec/xen/bin",
    "/usr/lib/xen/bin",
    "/usr/lib64/xen/bin",
    "/usr/local/libexec/xen/bin",
    "/usr/local/lib/xen/bin",
)
"""Where Xen's own programs are ($LIBEXEC_BIN): Debian's by version, then those of the others."""


def own_helper(version: Version, folders: tuple[str, ...] = FOLDERS) -> Path:
    """Return the path of the host's own helper; raise `HostError` if there is none."""
    places = [Path(folder.format("{}.{}".format(*version))) for folder in folders]
    for place in places:
        if os.access(place / NAME, os.X_OK):
            return place / NAME
    raise HostError(f"there is no {NAME} in {', '.join(map(str, places))}")


def own_environment() -> dict[str, str]:
    """Return our environment without $LIBXL_SAVE_HELPER."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}
