"""A file that is whole under its final name, or not there at all.

What is written goes to a hidden file beside the target (same file system, so that the rename is
atomic), 0600 because it holds a guest's memory.  Publishing syncs the file, renames it and syncs
the folder.  Everything is done relative to one descriptor of the folder, so that nobody can
swap the path underneath; an older file of that name survives any failure.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError, UsageError

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Draft:
    """A file being written: `file` is unbuffered; nothing has the final name before `publish`."""

    def __init__(self, folder: int, name: str, shown: Path) -> None:
        self._folder = folder
        self._name = name
        self._temporary = f".{name[:200]}.xenqemu-{os.urandom(8).hex()}"
        self._older = f"{self._temporary}.older"
        self.path = shown
        fd = os.open(self._temporary, _NEW, 0o600, dir_fd=folder)
        self.file: BinaryIO = io.FileIO(fd, "r+")

    def reopen(self) -> BinaryIO:
        """Return a reader at the start of what was written, by its own descriptor."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        return open(os.open(self._temporary, flags, dir_fd=self._folder), "rb")

    def publish(self) -> None:
        """Sync, give the final name, sync the folder.

        Whatever is raised on the way (`OSError` as the system says it), the older file of that
        name is back, or the name is free again.
        """
        os.fsync(self.file.fileno())
        try:
            self._keep_older()
            self._rename(self._temporary, self._name)
            os.fsync(self._folder)
        except BaseException:
            self._withdraw()
            raise

    @property
    def published(self) -> bool:
        """Whether this file has the final name: seen, since a failed rename may have been done."""
        found = self._stat(self._name)
        return found is not None and os.path.samestat(found, os.fstat(self.file.fileno()))

    def close(self) -> None:
        """Close the file, and remove it unless it was published."""
        try:
            self.file.close()
        finally:
            for name in (self._temporary, self._older):
                with contextlib.suppress(FileNotFoundError):  # published, or first of its name
                    os.unlink(name, dir_fd=self._folder)

    def _keep_older(self) -> None:
        """Give the file now under the final name, if there is one, a second name."""
        here = self._folder
        with contextlib.suppress(FileNotFoundError):
            os.link(
                self._name, self._older, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False
            )

    def _withdraw(self) -> None:
        if self.published:
            older = self._stat(self._older) is not None
            self._rename(*((self._older, self._name) if older else (self._name, self._temporary)))

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Draft]:
    """Give a `Draft` for `path`; on the way out it is published already, or removed.

    Raises `UsageError` where the name is taken by something that is not a regular file, and
    `HostError` where the folder cannot be written.
    """
    folder = _open_folder(path)
    try:
        _refuse_special(folder, path)
        try:
            draft = Draft(folder, path.name, path)
        except OSError as error:
            raise HostError(f"cannot create a file in {path.parent}: {error.strerror}") from error
        with contextlib.closing(draft):
            yield draft
    finally:
        os.close(folder)


def _open_folder(path: Path) -> int:
    if not path.name:
        raise UsageError(f"{path} does not name a file")
    try:
        return os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot open the folder {path.parent}: {error.strerror}") from error


def _refuse_special(folder: int, path: Path) -> None:
    try:
        mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} exists and is {_KINDS.get(stat.S_IFMT(mode), 'not a file')}")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
