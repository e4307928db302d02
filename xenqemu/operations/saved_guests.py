"""The folder for the save files of all guests of a host, from its shutdown to its boot.

::

    NAME          a guest that was saved, and not restored
    .NAME.ran     one that was unpaused, and not seen to run: its disks are ahead of the file

What a file name cannot hold is written as in URLs: %2F is "/".  xendomains names its save files by
their guests too, and skips what begins with a dot, as drafts do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from xenqemu.errors import FormatError
from xenqemu.formats.stream.source import Source
from xenqemu.operations.save_file import peek_config
from xenqemu.system.descriptors import sync_folder
from xenqemu.system.edited_folder import open_regular

RAN = ".ran"


@dataclass(frozen=True)
class SavedGuest:
    """The save file of one guest, called `file` in its folder."""

    folder: Path
    file: str

    @classmethod
    def of(cls, folder: Path, name: str) -> SavedGuest:
        """Return the place for the save file of the guest `name`."""
        file = quote(name, safe=" ", errors="surrogateescape")
        return cls(folder, f"%2E{file[1:]}" if file.startswith(".") else file)

    @property
    def name(self) -> str:
        """The guest's name."""
        return unquote(self.file, errors="surrogateescape")

    @property
    def path(self) -> Path:
        """The save file of a guest that is saved."""
        return self.folder / self.file

    @property
    def ran(self) -> Path:
        """The save file once its guest was unpaused."""
        return self.folder / f".{self.file}{RAN}"

    def mark_as_run(self) -> None:
        """Rename the save file, and sync that, before the guest is unpaused."""
        self.path.rename(self.ran)
        sync_folder(self.folder)

    def roll_back(self) -> None:
        """Rename it back; may be repeated."""
        if self.ran.exists():
            self.ran.rename(self.path)
            sync_folder(self.folder)


def saved(folder: Path, first: Iterable[str] = ()) -> list[SavedGuest]:
    """Return the guests that are saved: those of `first` in that order, then all others by name."""
    order = {name: number for number, name in enumerate(first)}
    found = [SavedGuest(folder, file) for file in _files(folder) if not file.startswith(".")]
    return sorted(found, key=lambda guest: order.get(guest.name, len(order)))


def saved_as(folder: Path, name: str) -> list[SavedGuest]:
    """Return the saved guests called `name`: by the config in a save file, or by the file's name.

    xl and its users name save files as they like, and of a damaged one only its name is known.
    Raises `OSError` if the folder cannot be read.
    """
    return [guest for guest in saved(folder) if name in (guest.name, _name_within(guest.path))]


def _name_within(path: Path) -> str | None:
    """Return the name of the guest in a save file, None if it does not say."""
    try:
        file = open_regular(path)
        if file is None:
            return None
        with file:
            return peek_config(Source(file)).name
    except (FormatError, OSError):
        return None


def already_run(folder: Path) -> list[SavedGuest]:
    """Return the guests that were unpaused, and not seen to run."""
    hidden = [file for file in _files(folder) if file.startswith(".") and file.endswith(RAN)]
    return [SavedGuest(folder, file[1 : -len(RAN)]) for file in hidden]


def _files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, which need not be there, in order."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_file())
