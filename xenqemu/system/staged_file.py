"""A file that is complete under its final name, or does not exist.

What is written goes to a hidden file beside the target (same file system, so that the rename is
atomic), 0600 because it holds a guest's memory.  Publishing syncs the file, renames it and syncs
the folder.  Everything is done relative to one descriptor of the folder, so that nobody can
swap the path underneath; an older file of that name survives any failure.

Who may write to the folder could put another file in the place of a guest that is gone by then: a
folder of others is refused.  The draft is read back by its descriptor, and that it has the final
name is looked at before anybody relies on it.

What a killed process leaves of a draft is removed by its `Traces`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import HostError, UsageError
from xenqemu.system.descriptors import kind_of
from xenqemu.system.free_space import require_free, reserve
from xenqemu.system.writers import require_sole_writers, trusted_ids

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLDER = ".older"

_KEPT = 200
"""Bytes of the final name in that of the draft; Linux takes 255 for all of it."""


@dataclass(frozen=True)
class Traces:
    """Where a draft and the older file are: `path` is the final path, `temporary` a name."""

    path: str
    temporary: str

    def clear(self) -> None:
        """Remove the draft, if it was not published, and the older file's second name."""
        try:
            folder = _open_folder(Path(self.path))
        except HostError as error:
            if isinstance(
                error.__cause__, FileNotFoundError
            ):  # the folder is gone, and all with it
                return
            raise
        try:
            if _remove(folder, self.temporary, f"{self.temporary}{_OLDER}"):
                os.fsync(folder)
        finally:
            os.close(folder)


@dataclass(frozen=True)
class Identity:
    """Which file a file is, whatever its name: its device and inode."""

    device: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Return the identity that a stat tells of."""
        return cls(status.st_dev, status.st_ino)

    def is_at(self, path: str, folder: int | None = None) -> bool:
        """Return whether this file has the name `path`."""
        found = _stat(path, folder)
        return found is not None and self == Identity.of(found)


class Draft:
    """A file to be written: `file` is unbuffered; nothing has the final name before `publish`."""

    file: BinaryIO
    identity: Identity

    def __init__(self, folder: int, name: str, shown: Path) -> None:
        self._folder = folder
        self._name = name
        start = os.fsencode(name)[:_KEPT].decode(errors="ignore")
        self._temporary = f".{start}.xenqemu-{os.urandom(8).hex()}"
        self._older = f"{self._temporary}{_OLDER}"
        self._reserved = 0
        self.path = shown
        self.traces = Traces(str(shown.absolute()), self._temporary)

    def create(self) -> None:
        """Make the file; raise `HostError` if that, or replacing the older one, is impossible."""
        try:
            fd = os.open(self._temporary, _NEW, 0o600, dir_fd=self._folder)
        except OSError as error:
            folder = self.path.parent
            raise HostError(f"cannot create a file in {folder}: {error.strerror}") from error
        self.file = io.FileIO(str(self.path), "r+", opener=lambda *_: fd)  # errors name the file
        self.identity = Identity.of(os.fstat(fd))
        self._require_replaceable()

    def require_creatable(self, size: int) -> None:
        """Raise `HostError` if no file of `size` bytes can be made there; nothing is made."""
        folder = self.path.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            raise HostError(f"cannot create a file in {folder}: it may not be written")
        require_free(self._folder, size, folder)

    def reserve(self, size: int) -> None:
        """Reserve space for `size` bytes; raise `HostError` if there is too little."""
        reserve(self.file.fileno(), size, self.path.parent, self._reserved)
        self._reserved = max(size, self._reserved)

    def sync(self) -> None:
        """Sync all of it to the disk, and release space that was reserved and not used."""
        with self._named():
            os.ftruncate(self.file.fileno(), os.fstat(self.file.fileno()).st_size)
            os.fsync(self.file.fileno())

    def reopen(self) -> BinaryIO:
        """Return a reader at the start of what was synced, by its own descriptor.

        It reads from the disk, where the file system drops its cached pages.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC
        fd = os.open(f"/proc/self/fd/{self.file.fileno()}", flags)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return open(str(self.path), "rb", opener=lambda *_: fd)

    def publish(self) -> None:
        """Sync, close, give the final name, sync the folder.

        Whatever is raised on the way (`OSError` as the system raises it, `HostError` if somebody
        has replaced the draft), the older file of that name is back, or ours does not have it.
        """
        self.sync()
        kept = os.dup(self.file.fileno())  # as long as it is open, no other file has its inode
        try:
            self.file.close()
            self._take_name()
        finally:
            os.close(kept)

    @property
    def published(self) -> bool:
        """Whether this file has the final name: seen, since a failed rename may have been done."""
        return self.identity.is_at(self._name, self._folder)

    def close(self) -> None:
        """Close the file if it was made, and remove it unless it was published."""
        try:
            if hasattr(self, "file"):
                self.file.close()
        finally:
            _remove(self._folder, self._temporary, self._older)

    def _take_name(self) -> None:
        try:
            self._keep_older()
            with self._named():
                self._rename(self._temporary, self._name)
                os.fsync(self._folder)
            if not self.published:
                raise HostError(f"{self.path}: somebody has replaced what was written")
        except BaseException:
            self._withdraw()
            raise

    def _keep_older(self) -> None:
        """Give the file now under the final name, if there is one, a second name."""
        here = self._folder
        with contextlib.suppress(FileNotFoundError):
            os.link(
                self._name, self._older, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False
            )

    def _require_replaceable(self) -> None:
        """Raise `HostError` if an older file cannot be kept: FAT, for one, has no hard links.

        This is checked before the guest is touched.
        """
        try:
            self._keep_older()
        except OSError as error:
            raise HostError(
                f"{self.path} exists and cannot be replaced safely: {error.strerror}; "
                "its file system may not support hard links: remove it first, or use another name"
            ) from error
        _remove(self._folder, self._older)

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Have errors of the block name the file, as those of calls that take a path do."""
        try:
            yield
        except OSError as error:
            error.filename = error.filename or str(self.path)
            raise

    def _withdraw(self) -> None:
        if _stat(self._older, self._folder) is not None:  # nothing, where it still has its name
            self._rename(self._older, self._name)
        elif self.published:
            self._rename(self._name, self._temporary)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder, dst_dir_fd=self._folder)


@contextlib.contextmanager
def draft_for(path: Path, owners: Collection[str] = ()) -> Iterator[Draft]:
    """Yield a `Draft` for `path`, yet to be made; on the way out it is published, or removed.

    Raises `UsageError` where the name is taken by something that is not a regular file, `HostError`
    where there is no such folder, and `Forbidden` where others than root, our own user and the
    `owners` may write to it.
    """
    folder = _open_folder(path)
    try:
        require_sole_writers(path.parent, trusted_ids(owners), sticky=True)
        _refuse_special(folder, path)
        with contextlib.closing(Draft(folder, path.name, path)) as draft:
            yield draft
    finally:
        os.close(folder)


def _remove(folder: int, *names: str) -> bool:
    """Remove the files of these names, and return whether there was any."""
    found = False
    for name in names:
        try:
            os.unlink(name, dir_fd=folder)
            found = True
        except OSError:  # a read-only mount refuses it even where there is none
            if _stat(name, folder) is not None:
                raise
    return found


def _stat(path: str, folder: int | None) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return None
        raise


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
        raise UsageError(f"{path} exists and is {kind_of(mode)}")
