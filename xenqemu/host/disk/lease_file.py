"""The file of a lease and its lock, in a folder that others may write to.

Everything is done by one descriptor of the folder, and to regular files alone, of root, our own
user, or who has the image or its folder anyway: where storage takes root for another user, what we
write is that one's.  What others put in their place (a symbolic link, a FIFO) is an error at once:
it is never followed, waited for or written to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.frozen import Frozen
from xenqemu.system.descriptors import open_regular, opened_folder
from xenqemu.system.lock_file import LockFile
from xenqemu.system.writers import trusted_ids

SUFFIX = ".xenqemu-lease"

LONGEST = 4096
"""Bytes of a lease at most; more is damage."""


class LeaseFile(Frozen):
    """The file `path`, in an open folder; it need not be there."""

    path: Path
    folder: int
    users: frozenset[int]

    def locked(self, seconds: float) -> AbstractContextManager[None]:
        """Return what keeps others from the lease for a block; raises as `lock_file.locked`."""
        path = self.path.with_name(f"{self.path.name}.lock")
        return LockFile(self.folder, path, self.users).held(seconds)

    def read(self) -> bytes | None:
        """Return what the file holds, None if there is none; raise `HostError`.

        Of one that is too long, only so much is returned that it shows.
        """
        try:
            descriptor = open_regular(self.folder, self.path.name, os.O_RDONLY, self.users)
        except FileNotFoundError:
            return None
        except (OSError, HostError) as error:
            raise self.failed(error) from error
        with open(descriptor, "rb") as file:
            return file.read(LONGEST + 1)

    def write(self, data: bytes) -> None:
        """Replace the file, so that it is whole at any time; raise `HostError`.

        The lock is held: the draft of the new one is nobody else's.
        """
        draft, name = f"{self.path.name}.new", self.path.name
        try:
            with suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=self.folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(draft, flags, 0o600, dir_fd=self.folder), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.rename(draft, name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
                named = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
                if not os.path.samestat(os.fstat(file.fileno()), named):
                    raise HostError("somebody has replaced it while it was written")
            os.fsync(self.folder)
        except (OSError, HostError) as error:
            raise self.failed(error) from error

    def remove(self) -> None:
        """Remove the file; raise `HostError`."""
        try:
            os.unlink(self.path.name, dir_fd=self.folder)
            os.fsync(self.folder)
        except OSError as error:
            raise self.failed(error) from error

    def failed(self, error: OSError | HostError) -> HostError:
        """Return the error that names the file."""
        why = error.strerror if isinstance(error, OSError) else error
        return HostError(f"{self.path}: {why}")


@contextmanager
def lease_file(image: Path) -> Iterator[LeaseFile]:
    """Yield the file of an image's lease, beside what the path leads to.

    Raises `HostError` where there is no such folder, with the `OSError` as its cause.
    """
    real = Path(os.path.realpath(image))
    path = real.with_name(real.name + SUFFIX)
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(opened_folder(path.parent))
        except OSError as error:
            raise HostError(f"cannot open the lock file {path}.lock: {error.strerror}") from error
        yield LeaseFile(path, folder, _users(folder, real.name))


def _users(folder: int, image: str) -> frozenset[int]:
    """Return who may own the files of an image's lease."""
    owners = {os.fstat(folder).st_uid}
    with suppress(FileNotFoundError):
        owners.add(os.stat(image, dir_fd=folder, follow_symlinks=False).st_uid)
    return trusted_ids() | owners
