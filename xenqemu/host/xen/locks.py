"""libxl's locks on a domain, taken as libxl takes them, so that an xl beside us waits for us.

::

    /var/lib/xen/userdata-l.DOMID.UUID.libxl-device-changes-lock
                                       while devices or the configuration are looked at or changed
    /var/lib/xen/userdata-l.DOMID.UUID.qmp-socket-lock
                                       while the one client of QEMU's socket is connected
    /var/lib/xen/userdata-l.DOMID.UUID.domain-userdata-lock
                                       while the stored configuration is read or written; innermost

Each is a file that is there only while somebody holds it or waits for it: opened (O_CREAT, 0666),
locked by flock(LOCK_EX), then compared with what has the name by now, because the holder removes
the file before it lets go of the lock.  Who finds another file, or none, begins anew.  libxl waits
for ever, in a child process; here there is a deadline.

xl itself has one more, /var/lock/xl, a record lock (fcntl) around freeing memory for a new domain:
`xl restore` takes it, whoever runs it.  `xl save` holds no lock while it saves.

Sources: libxl__lock_file, libxl__lock_domain_userdata and libxl__ev_slowlock in libxl_internal.c,
libxl__userdata_path in libxl_dom.c, acquire_lock in xl_vmcontrol.c.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from xenqemu.errors import HostError, HostTimeout
from xenqemu.host.flock import locked_within
from xenqemu.host.policy import PATIENCE, Deadline, Deadlines

FOLDER = Path("/var/lib/xen")
"""XEN_LIB_DIR."""


class Lock(Enum):
    """The locks of a domain, in the order to take them."""

    DEVICE_CHANGES = "libxl-device-changes-lock"
    QMP_SOCKET = "qmp-socket-lock"
    USERDATA = "domain-userdata-lock"


def userdata_path(domid: int, uuid: str, name: str, what: str, folder: Path = FOLDER) -> Path:
    """Return where libxl keeps something of a domain; `what` is "d" for data, "l" for a lock."""
    return folder / f"userdata-{what}.{domid}.{uuid}.{name}"


@contextmanager
def locked(
    lock: Lock, domid: int, uuid: str, deadlines: Deadlines = PATIENCE, folder: Path = FOLDER
) -> Iterator[None]:
    """Hold a lock of a domain for the block; raise `HostTimeout` if somebody else does for long.

    Whether the domain is still there is for the caller to look at, once the lock is held.
    """
    path = userdata_path(domid, uuid, lock.value, "l", folder)
    deadline = Deadline.after(deadlines.libxl_lock)
    descriptor = _acquire(path, deadline)
    while descriptor is None:
        if deadline.passed:
            raise HostTimeout(f"{path} is held by another process for {deadlines.libxl_lock:g} s")
        descriptor = _acquire(path, deadline)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is let go: see above
        os.close(descriptor)


def _acquire(path: Path, deadline: Deadline) -> int | None:
    """Return the locked file that has the name, None if it took too long or has another by now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise HostError(f"cannot open the lock {path}: {error.strerror}") from error
    if locked_within(deadline.left, descriptor) and _has_name(descriptor, path):
        return descriptor
    os.close(descriptor)
    return None


def _has_name(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
