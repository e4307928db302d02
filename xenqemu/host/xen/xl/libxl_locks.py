"""libxl's locks on a domain, taken as libxl takes them, so that a concurrent xl waits for us.

::

    /var/lib/xen/userdata-l.DOMID.UUID.libxl-device-changes-lock
                                       while devices or the configuration are read or changed
    /var/lib/xen/userdata-l.DOMID.UUID.qmp-socket-lock
                                       while the one client of QEMU's socket is connected
    /var/lib/xen/userdata-l.DOMID.UUID.domain-userdata-lock
                                       while the stored configuration is read or written; innermost

Each is a file of the kind that `xenqemu.system.lock_file` describes, with the mode 0666.

xl itself has one more, /var/lock/xl, a record lock (fcntl) around freeing memory for a new domain:
`xl restore` takes it, whoever runs it.  `xl save` holds no lock while it saves.

Sources: libxl__lock_file, libxl__lock_domain_userdata and libxl__ev_slowlock in libxl_internal.c,
libxl__userdata_path in libxl_dom.c, acquire_lock in xl_vmcontrol.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.system import lock_file

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
    lock: Lock,
    domid: int,
    uuid: str,
    deadlines: Deadlines = DEFAULT_DEADLINES,
    folder: Path = FOLDER,
) -> Iterator[None]:
    """Hold a lock of a domain for the block; raise `HostTimeout` if somebody else does for long.

    The caller has to check that the domain still exists, once the lock is held.
    """
    path = userdata_path(domid, uuid, lock.value, "l", folder)
    with lock_file.locked(path, deadlines.libxl_lock, 0o666):
        yield
