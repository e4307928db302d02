"""The folder in which the records of all guests of a host lie from its shutdown to its boot.

::

    NAME          a guest that was saved: nobody has brought it back
    .NAME.ran     one that was let run again, and was not seen to run on: its disks are ahead of it

What no name of a file can hold is written as in URLs: %2F is "/".  xendomains names its records by
their guests too, and leaves alone what begins with a dot, as does what is being written just now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from xenqemu.system.descriptors import sync_folder

RAN = ".ran"


@dataclass(frozen=True)
class Kept:
    """The record of one guest, called `file` in its folder."""

    folder: Path
    file: str

    @classmethod
    def of(cls, folder: Path, name: str) -> Kept:
        """Return the place for the record of the guest `name`."""
        file = quote(name, safe=" ", errors="surrogateescape")
        return cls(folder, f"%2E{file[1:]}" if file.startswith(".") else file)

    @property
    def name(self) -> str:
        """The guest's name."""
        return unquote(self.file, errors="surrogateescape")

    @property
    def path(self) -> Path:
        """The record of a guest that is saved."""
        return self.folder / self.file

    @property
    def ran(self) -> Path:
        """The record once its guest was let run."""
        return self.folder / f".{self.file}{RAN}"

    def spend(self) -> None:
        """Note for good that the guest is let run: from then on its record is its past."""
        self.path.rename(self.ran)
        sync_folder(self.folder)

    def roll_back(self) -> None:
        """Note that it did not come to that; may be repeated."""
        if self.ran.exists():
            self.ran.rename(self.path)
            sync_folder(self.folder)


def saved(folder: Path, first: Iterable[str] = ()) -> list[Kept]:
    """Return the guests that are saved: those of `first` in that order, then all others by name."""
    order = {name: number for number, name in enumerate(first)}
    found = [Kept(folder, file) for file in _files(folder) if not file.startswith(".")]
    return sorted(found, key=lambda kept: order.get(kept.name, len(order)))


def spent(folder: Path) -> list[Kept]:
    """Return the guests that were let run, and not seen to run on."""
    hidden = [file for file in _files(folder) if file.startswith(".") and file.endswith(RAN)]
    return [Kept(folder, file[1 : -len(RAN)]) for file in hidden]


def _files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, which need not be there, in order."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_file())
