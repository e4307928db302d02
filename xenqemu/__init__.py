"""Suspend, restore and migrate Xen domains together with their device models.

For toolstacks: `suspend`, `restore`, `migrate`, `verify`, `status`, `recover`, `cancel` and
`open_host` (module `toolstack`).
They are loaded when they are first asked for, so that a program that needs one floor of this
package, such as the save helper that libxl waits for, does not load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xenqemu.host.precopy import Precopy as Precopy
    from xenqemu.hosts import open_host as open_host
    from xenqemu.operations.suspend import After as After
    from xenqemu.toolstack import cancel as cancel
    from xenqemu.toolstack import migrate as migrate
    from xenqemu.toolstack import recover as recover
    from xenqemu.toolstack import restore as restore
    from xenqemu.toolstack import status as status
    from xenqemu.toolstack import suspend as suspend
    from xenqemu.toolstack import verify as verify

__all__ = [
    "After",
    "Precopy",
    "cancel",
    "migrate",
    "open_host",
    "recover",
    "restore",
    "status",
    "suspend",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("xenqemu.toolstack"), name)
