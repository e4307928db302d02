"""Suspend, restore and migrate Xen domains together with their device models.

For toolstacks: `suspend`, `restore`, `migrate`, `verify`, `status`, `recover`, `cancel` and
`open_host` (module `api`).
They are loaded when they are first asked for, so that a program that needs one floor of this
package, such as the save helper that libxl waits for, does not load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xenqemu.api import cancel as cancel
    from xenqemu.api import migrate as migrate
    from xenqemu.api import recover as recover
    from xenqemu.api import restore as restore
    from xenqemu.api import status as status
    from xenqemu.api import suspend as suspend
    from xenqemu.api import verify as verify
    from xenqemu.choose_host import open_host as open_host
    from xenqemu.host.precopy import PrecopyOptions as PrecopyOptions
    from xenqemu.operations.save import After as After

__all__ = [
    "After",
    "PrecopyOptions",
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
    return getattr(import_module("xenqemu.api"), name)
