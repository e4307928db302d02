"""The socket that xenstored listens on: one server at most, and it listens once it has its name.

A lock file beside the socket is held for as long as the server lives, so that of two servers
started at once one is refused, and so that a socket whose server is dead is found and replaced.
The socket is bound and listening under another name before it is renamed into place.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import StoreError

BACKLOG = 64


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen on the Unix socket `path`, mode 0600; its folder is made 0700 if missing.

    Raises `StoreError` if there is a server, or if the socket cannot be made.
    """
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(_locked(path))
            if _answers(path):
                raise BlockingIOError("another program answers there")
            listener = stack.enter_context(_bound(path))
        except BlockingIOError as error:
            raise StoreError(f"{path}: a xenstored serves this socket already") from error
        except OSError as error:
            raise StoreError(f"{path}: cannot listen: {error}") from error
        yield listener


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of the socket; raise `BlockingIOError` if another does."""
    fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _answers(path: Path) -> bool:
    """Return whether a server without our lock, Xen's own for one, listens on `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@contextlib.contextmanager
def _bound(path: Path) -> Iterator[socket.socket]:
    """Bind, listen, and only then move the socket to its name; remove it at the end."""
    draft = Path(f"{path}.new")
    draft.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        draft.replace(path)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
