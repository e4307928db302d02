"""What the settings of xendomains mean here; what they mean to that script is not all done here.

::

    XENDOMAINS_SAVE           save_all.folder; if empty, save_all.save = false
    XENDOMAINS_RESTORE        restore_all.restore
    XENDOMAINS_AUTO           save_all.configs
    XENDOMAINS_AUTO_ONLY      if true, save_all.others: "leave", or "shutdown" with _SHUTDOWN_ALL
    XENDOMAINS_STOP_MAXWAIT   save_all.deadline, of all guests together instead of each
    XENDOMAINS_MIGRATE, _SYSRQ, and an empty _SHUTDOWN    are not heeded
    XENDOMAINS_USLEEP, _CREATE_USLEEP                     are about what is not done here

What is not heeded is said, and is no error: a host that shuts down has to save its guests.  But
a folder that is not known is one, since nobody would find them in another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from xenqemu.errors import UsageError
from xenqemu.settings.choice import Choice
from xenqemu.settings.xendomains import Assigned, read
from xenqemu.settings.xenqemu_conf import DEFAULTS, SaveAll, Settings
from xenqemu.system.deadline import MAX_SECONDS

T = TypeVar("T")

UNKNOWN = Path("/dev/null/unknown")
"""The folder of save files where only a shell could tell it; there is none of this name."""

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "1"), True),
    **dict.fromkeys(("false", "no", "0", ""), False),
}
_ONLY = {"true": True, "false": False, "": False}
"""Of AUTO_ONLY: to the script nothing else is true, and guests that it leaves are lost."""

_INSTEAD = {
    "MIGRATE": "domains are saved, not migrated",
    "SYSRQ": "no SysRq is sent to domains",
}
"""What is done instead of what these ask for."""


@dataclass(frozen=True)
class Heeded:
    """The defaults that a file of xendomains makes, and what it says that is not heeded."""

    settings: Settings
    complaints: tuple[str, ...]

    def require_folder(self, settings: Settings) -> Settings:
        """Return settings that are based on these; raise `UsageError` if they have no folder."""
        if settings.save_all.folder == UNKNOWN:
            raise UsageError(f"{self.complaints[0]}; set save_all.folder in xenqemu.conf")
        return settings


def after_xendomains(text: bytes, where: str, base: Settings = DEFAULTS) -> Heeded:
    """Return what the text of a file of xendomains makes of `base`; `where` names the file.

    Raises `UsageError` for a text that is too long.
    """
    names = _Names(where, read(text, where))
    save_all = _save_all(names, base.save_all)
    restore = names.meaning("RESTORE", "true or false", _truth)
    restore_all = base.restore_all.but(restore=restore is not False)
    for name, instead in _INSTEAD.items():
        if names.is_set(name):
            names.complain(name, f"is not heeded: {instead}")
    if names.value("SHUTDOWN") == "" and not names.is_set("SHUTDOWN_ALL"):
        names.complain("SHUTDOWN", "is empty, and not heeded: what is not saved is shut down")
    settings = base.but(save_all=save_all, restore_all=restore_all)
    return Heeded(settings, tuple(names.complaints))


def _save_all(names: _Names, base: SaveAll) -> SaveAll:
    folder = names.meaning("SAVE", "an absolute path", _path)
    if folder is None and names.is_set("SAVE"):
        folder = UNKNOWN
    return base.but(
        folder=folder or base.folder,
        save=names.value("SAVE") != "",
        configs=names.meaning("AUTO", "an absolute path", _path) or base.configs,
        deadline=names.meaning("STOP_MAXWAIT", "seconds, above 0", _seconds) or base.deadline,
        others=_others(names),
    )


def _others(names: _Names) -> Choice:
    """Return what happens to guests that have no file.

    With AUTO_ONLY the script passes them over, and at its end shuts down all that still run.
    """
    if not names.meaning("AUTO_ONLY", "true or false", _ONLY.get):
        return Choice.SAVE
    return Choice.SHUT_DOWN if names.is_set("SHUTDOWN_ALL") else Choice.LEAVE


@dataclass(frozen=True)
class _Names:
    """What a file sets, by names without their XENDOMAINS_, and complaints about it."""

    where: str
    found: Mapping[str, Assigned]
    complaints: list[str] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """Return the value of a name, None if it is not set, or only a shell could tell."""
        found = self.found.get(f"XENDOMAINS_{name}")
        return found.value if found else None

    def is_set(self, name: str) -> bool:
        """Return whether a name is set, and as far as can be told to more than nothing."""
        return f"XENDOMAINS_{name}" in self.found and self.value(name) != ""

    def meaning(self, name: str, expected: str, take: Callable[[str], T | None]) -> T | None:
        """Return what the value of a name means, None if it is not set, or to nothing that does."""
        value = self.value(name)
        meaning = None if value is None else take(value)
        if meaning is None and self.is_set(name):
            got = self.found[f"XENDOMAINS_{name}"].text
            self.complain(name, f"is not heeded: expected {expected}, got {got!r:.80}")
        return meaning

    def complain(self, name: str, what: str) -> None:
        """Note that a name is not heeded."""
        self.complaints.append(f"{self.where}: XENDOMAINS_{name} {what}")


def _truth(value: str) -> bool | None:
    return _BOOLEANS.get(value.lower())


def _path(value: str) -> Path | None:
    return Path(value) if value.startswith("/") and value.isprintable() else None


def _seconds(value: str) -> float | None:
    """Return some seconds; the script has no bound, and ends no program with 0."""
    if not (value.isascii() and value.isdecimal() and int(value[:99])):
        return None
    return min(float(value[:99]), MAX_SECONDS)
