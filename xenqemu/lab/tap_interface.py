"""Tap interfaces that live as long as a process has them open (linux/if_tun.h)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, InUse

_TUNSETIFF = 0x400454CA
_TAP_NO_PI = 0x0002 | 0x1000
"""IFF_TAP | IFF_NO_PI: whole Ethernet frames, nothing before them."""

_REQUEST = struct.Struct("16sH22x")
"""struct ifreq: the name and the flags."""


_NET_ADMIN = 1 << 12
"""CAP_NET_ADMIN of capabilities(7)."""


def is_allowed() -> bool:
    """Return whether we may make interfaces and put them into bridges."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective & _NET_ADMIN)


@contextmanager
def opened(name: str) -> Iterator[int]:
    """Make an interface and yield the descriptor of its other end; it ends with the last one.

    Raises `InUse` if the name is taken, `HostError` if the system does not let us.
    """
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot open /dev/net/tun: {error.strerror}") from error
    try:
        _name(descriptor, name)
        yield descriptor
    finally:
        os.close(descriptor)


def _name(descriptor: int, name: str) -> None:
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _REQUEST.pack(name.encode(), _TAP_NO_PI))
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.EINVAL):  # EINVAL: an interface of another kind
            raise InUse(f"an interface {name} exists already") from error
        raise HostError(f"cannot make the interface {name}: {error.strerror}") from error
