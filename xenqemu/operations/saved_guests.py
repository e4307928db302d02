"""The folder for the save files of all guests of a host, from its shutdown to its boot.

::

    NAME          a guest that was saved, and not restored
    NAME~UUID     the same, where NAME is taken by another guest
    .FILE.ran     one that was restored, and not seen to run: its disks are ahead of the file

What a file name cannot hold is written as in URLs: %2F is "/".  A name that gets too long by that
ends in a digest.  So whose a save file is, its config says.  xendomains names its save files by
their guests too, and skips what begins with a dot, as drafts do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote, unquote

from xenqemu.errors import HostError, XenqemuError
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import Domain
from xenqemu.operations.save_file import peek_config, was_paused
from xenqemu.system.descriptors import sync_folder
from xenqemu.system.regular_file import open_regular
from xenqemu.system.zstd.unpacked import unpacked

RAN = ".ran"
OF = "~"
"""Stands between a name and what tells apart the save files of guests of that name."""

LONGEST = 200
"""Bytes of a guest's name in a file name; Linux takes 255, for UUID, domain id and RAN too."""

DIGEST = 16
"""Digits of the digest that a longer name ends in."""


@dataclass(frozen=True)
class Owner:
    """Whose a save file is, by its config; the uuid is "" where that cannot be read.

    `saved` is when it was saved, in Unix time; `paused` says that its guest was paused then.
    """

    name: str
    uuid: str = ""
    saved: float = 0.0
    paused: bool = False

    @classmethod
    def of(cls, path: Path) -> Owner | None:
        """Return whose a save file is; None for what does not say so, or is no file."""
        try:
            file = open_regular(path)
            if file is None:
                return None
            with file, unpacked(file) as save_file:
                config = peek_config(Source(save_file))
                saved = os.fstat(file.fileno()).st_mtime
            return cls(config.name, config.uuid.lower(), saved, was_paused(config))
        except (XenqemuError, OSError):  # restoring it says why
            return None


@dataclass(frozen=True)
class SavedGuest:
    """The save file of one guest, called `file` in its folder."""

    folder: Path
    file: str
    owner: Owner = field(default=Owner(""), compare=False)

    @classmethod
    def of(cls, folder: Path, name: str) -> SavedGuest:
        """Return the place for the save file of the guest `name`, if no other guest has it."""
        return cls(folder, file_name(name), Owner(name))

    @classmethod
    def found(cls, folder: Path, file: str, *, ran: bool = False) -> SavedGuest:
        """Return what is in a folder under this name."""
        place = cls(folder, file)
        owner = Owner.of(place.ran if ran else place.path)
        return cls(folder, file, owner or Owner(place.decoded))

    @property
    def name(self) -> str:
        """The guest's name."""
        return self.owner.name

    @property
    def decoded(self) -> str:
        """What the name of the file says, for people."""
        return unquote(self.file, errors="surrogateescape")

    @property
    def path(self) -> Path:
        """The save file of a guest that is saved."""
        return self.folder / self.file

    @property
    def ran(self) -> Path:
        """The save file once its guest was restored."""
        return self.folder / f".{self.file}{RAN}"

    @property
    def by_name(self) -> bool:
        """Whether save-all, or xendomains, gives its guest a file of this name."""
        base = file_name(self.name)
        own = self.file == base or self.file.startswith(f"{base}{OF}{self.owner.uuid}")
        return own or self.file == self.name

    def is_called(self, name: str) -> bool:
        """Return whether it is, or may be, a save file of a guest of this name."""
        base = file_name(name)
        readable = bool(self.owner.uuid)
        marked = not readable and self.file.startswith(f"{base}{OF}")  # for another of that name
        return name in (self.name, self.decoded) or self.file == base or marked

    def is_free_for(self, uuid: str) -> bool:
        """Return whether nothing here is, or may be, another guest's, which has no other copy."""
        there = [path for path in (self.path, self.ran) if path.exists() or path.is_symlink()]
        owners = map(Owner.of, there)
        return all(owner is not None and owner.uuid == uuid.lower() for owner in owners)

    def mark_as_run(self) -> None:
        """Rename the save file, and sync that, before the guest is unpaused.

        Raises `HostError` where that would replace the save file of another guest.
        """
        if self.ran.exists():
            other = Owner.of(self.ran)
            if other is None or other.uuid != self.owner.uuid:
                raise HostError(f"{self.ran} is in the way: it may be another guest's save file")
        self.path.rename(self.ran)
        sync_folder(self.folder)

    def roll_back(self) -> None:
        """Rename it back; may be repeated."""
        if self.ran.exists() and not self.path.exists():
            self.ran.rename(self.path)
            sync_folder(self.folder)

    def drop_older(self) -> None:
        """Remove what an earlier restore left of the guest that is saved here now."""
        self.ran.unlink(missing_ok=True)


def file_name(name: str) -> str:
    """Return a guest's name as that of a file, of `LONGEST` bytes at most."""
    file = quote(name, safe=" ", errors="surrogateescape")
    if file.startswith("."):
        file = f"%2E{file[1:]}"
    if len(file) <= LONGEST:
        return file
    digest = sha256(name.encode(errors="surrogateescape")).hexdigest()[:DIGEST]
    return f"{file[: LONGEST - DIGEST - len(OF)]}{OF}{digest}"


def place_for(folder: Path, guest: Domain, taken: Collection[str] = ()) -> SavedGuest:
    """Return the place for a guest's save file, which is neither `taken` nor another guest's.

    Raises `HostError` if there is none.
    """
    base, owner = file_name(guest.name), Owner(guest.name, guest.uuid.lower())
    files = (base, f"{base}{OF}{owner.uuid}", f"{base}{OF}{owner.uuid}{OF}{guest.domid}")
    for file in files:
        place = SavedGuest(folder, file, owner)
        if file and file not in taken and place.is_free_for(guest.uuid):
            return place
    raise HostError(f"{folder}: {', '.join(files)} are taken by other guests' save files")


def saved(folder: Path, first: Iterable[str] = ()) -> list[SavedGuest]:
    """Return the save files there are: those of `first` in that order, then all others by name."""
    order = {name: number for number, name in enumerate(first)}
    found = [SavedGuest.found(folder, file) for file in _files(folder) if not file.startswith(".")]
    return sorted(found, key=lambda guest: order.get(guest.name, len(order)))


def saved_as(folder: Path, name: str) -> list[SavedGuest]:
    """Return the saved guests called `name`: by the config in a save file, or by the file's name.

    xl and its users name save files as they like, and of a damaged one only its name is known.
    Raises `OSError` if the folder cannot be read.
    """
    return [guest for guest in saved(folder) if guest.is_called(name)]


def already_run(folder: Path) -> list[SavedGuest]:
    """Return the guests that were restored, and not seen to run."""
    hidden = [file for file in _files(folder) if file.startswith(".") and file.endswith(RAN)]
    return [SavedGuest.found(folder, file[1 : -len(RAN)], ran=True) for file in hidden]


def not_restored(found: Iterable[SavedGuest]) -> Iterator[tuple[SavedGuest, SavedGuest | None]]:
    """Yield each save file that `restore_all` leaves, and the one that is its guest's, if any.

    Only those that have their guest's name are restored: another one was made by hand, and the
    guest may have run since.  Of two of one name that is the last, since a guest that was made anew
    often has another uuid.
    """
    own: list[SavedGuest] = []
    for guest in sorted(found, key=lambda each: (not each.by_name, -each.owner.saved)):
        better = next((other for other in own if _same_guest(guest, other)), None)
        if better is None and guest.by_name:
            own.append(guest)
        else:
            yield guest, better


def _same_guest(guest: SavedGuest, other: SavedGuest) -> bool:
    """Return whether only one of two save files can be restored; `other` comes first.

    Guests made of copies of one xl.cfg may share its uuid: then each has a file by its name.
    """
    same_uuid = bool(guest.owner.uuid) and guest.owner.uuid == other.owner.uuid
    return guest.name == other.name or (same_uuid and not guest.by_name)


def _files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, which need not be there, in order."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if path.is_file())
