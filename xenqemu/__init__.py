"""Suspend, restore and migrate Xen domains together with their device models.

For toolstacks: what is listed here, and the errors in `xenqemu.errors`; `xenqemu.api` says how it
is used.  Everything is loaded when it is first used, so that a program that needs one
floor of this package, such as the save helper that libxl waits for, does not load them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xenqemu.version import VERSION

if TYPE_CHECKING:
    from xenqemu import errors as errors
    from xenqemu.api import After as After
    from xenqemu.api import Clone as Clone
    from xenqemu.api import CloneOptions as CloneOptions
    from xenqemu.api import Command as Command
    from xenqemu.api import Contents as Contents
    from xenqemu.api import DomainConfig as DomainConfig
    from xenqemu.api import DomainState as DomainState
    from xenqemu.api import Event as Event
    from xenqemu.api import Finding as Finding
    from xenqemu.api import Host as Host
    from xenqemu.api import Iteration as Iteration
    from xenqemu.api import Job as Job
    from xenqemu.api import Kind as Kind
    from xenqemu.api import MigrateOptions as MigrateOptions
    from xenqemu.api import Observer as Observer
    from xenqemu.api import Outcome as Outcome
    from xenqemu.api import Phase as Phase
    from xenqemu.api import PrecopyOptions as PrecopyOptions
    from xenqemu.api import ReceiveOptions as ReceiveOptions
    from xenqemu.api import Recovered as Recovered
    from xenqemu.api import Restored as Restored
    from xenqemu.api import RestoreOptions as RestoreOptions
    from xenqemu.api import SaveOptions as SaveOptions
    from xenqemu.api import Settings as Settings
    from xenqemu.api import Way as Way
    from xenqemu.api import cancel as cancel
    from xenqemu.api import check as check
    from xenqemu.api import clone as clone
    from xenqemu.api import compress as compress
    from xenqemu.api import decompress as decompress
    from xenqemu.api import domains as domains
    from xenqemu.api import inspect as inspect
    from xenqemu.api import job as job
    from xenqemu.api import migrate as migrate
    from xenqemu.api import open_host as open_host
    from xenqemu.api import read_config as read_config
    from xenqemu.api import read_settings as read_settings
    from xenqemu.api import receive as receive
    from xenqemu.api import recover as recover
    from xenqemu.api import restore as restore
    from xenqemu.api import restore_all as restore_all
    from xenqemu.api import save as save
    from xenqemu.api import save_all as save_all
    from xenqemu.api import save_devices as save_devices
    from xenqemu.api import saved as saved
    from xenqemu.api import seal as seal
    from xenqemu.api import status as status
    from xenqemu.api import verify as verify

__version__ = VERSION

__all__ = [
    "After",
    "Clone",
    "CloneOptions",
    "Command",
    "Contents",
    "DomainConfig",
    "DomainState",
    "Event",
    "Finding",
    "Host",
    "Iteration",
    "Job",
    "Kind",
    "MigrateOptions",
    "Observer",
    "Outcome",
    "Phase",
    "PrecopyOptions",
    "ReceiveOptions",
    "Recovered",
    "RestoreOptions",
    "Restored",
    "SaveOptions",
    "Settings",
    "Way",
    "__version__",
    "cancel",
    "check",
    "clone",
    "compress",
    "decompress",
    "domains",
    "errors",
    "inspect",
    "job",
    "migrate",
    "open_host",
    "read_config",
    "read_settings",
    "receive",
    "recover",
    "restore",
    "restore_all",
    "save",
    "save_all",
    "save_devices",
    "saved",
    "seal",
    "status",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "errors":
        return import_module("xenqemu.errors")
    return getattr(import_module("xenqemu.api"), name)


def __dir__() -> list[str]:
    return __all__
