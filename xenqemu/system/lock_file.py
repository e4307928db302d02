"""A lock that is a file: there only while it is held or waited for, released when a process ends.

The file is opened (O_CREAT), locked by flock(LOCK_EX), then compared with what has the name by now,
because the holder removes the file before it releases the lock.  If it is another file, or none,
all is done again.  So do libxl (libxl__lock_file) and Xen's hotplug scripts (locking.sh); they wait
for ever, here there is a deadline.  On NFS the lock holds between hosts too (flock(2)).

Others may write to the folder: what they put in the place of the file is never followed, waited for
or made into anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.frozen import Frozen
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import create_or_open, opened_folder
from xenqemu.system.flock import locked_within
from xenqemu.system.writers import trusted_ids


@contextmanager
def locked(path: Path, seconds: float, mode: int = 0o600) -> Iterator[None]:
    """Hold the lock for the block.

    Raises `HostTimeout` if somebody else does for `seconds`, `HostError` if the file cannot be
    made, or is not a file of root's or of our own.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(opened_folder(path.parent))
        except OSError as error:
            raise HostError(f"cannot open the lock file {path}: {error.strerror}") from error
        stack.enter_context(LockFile(folder, path, trusted_ids(), mode).held(seconds))
        yield


class LockFile(Frozen):
    """A lock whose file is called as `path` is, in an open folder, and is of one of `users`."""

    folder: int
    path: Path
    users: Collection[int]
    mode: int = 0o600

    @contextmanager
    def held(self, seconds: float) -> Iterator[None]:
        """Hold the lock for the block; raises as `locked`."""
        deadline = Deadline.after(seconds)
        descriptor = self._acquired(deadline)
        while descriptor is None:
            if deadline.passed:
                raise HostTimeout(f"{self.path} is locked by another process for {seconds:g} s")
            descriptor = self._acquired(deadline)
        try:
            yield
        finally:
            try:
                with suppress(FileNotFoundError):
                    os.unlink(self.path.name, dir_fd=self.folder)  # before the lock is released
            finally:
                os.close(descriptor)

    def _acquired(self, deadline: Deadline) -> int | None:
        """Return the locked file, None after the deadline, or if another file has the name."""
        try:
            descriptor = create_or_open(self.folder, self.path.name, self.users, self.mode)
        except FileNotFoundError:  # its holder has removed it: the next one is ours
            return None
        except (OSError, HostError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise HostError(f"cannot open the lock file {self.path}: {why}") from error
        ours = False
        try:
            ours = locked_within(deadline.left, descriptor) and self._is_at_name(descriptor)
        finally:
            if not ours:
                os.close(descriptor)
        return descriptor if ours else None

    def _is_at_name(self, descriptor: int) -> bool:
        try:
            named = os.stat(self.path.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(descriptor), named)
