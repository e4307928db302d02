"""Network namespaces of a test's own, with the interfaces it needs."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000


@contextmanager
def namespace() -> Iterator[None]:
    """Run the block, of this thread, in an empty network namespace, which ends with it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _do(_LIBC.unshare(_NEWNET))
        ip("link set lo up")
        yield
    finally:
        _do(_LIBC.setns(before, _NEWNET))
        os.close(before)


def ip(line: str) -> str:
    """Run `ip` with the words of a line and return what it prints."""
    return subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=True).stdout


def bridge(name: str, mtu: int = 1500) -> None:
    """Make a bridge that is up, and forwards at once."""
    ip(f"link add {name} type bridge forward_delay 0")
    ip(f"link set {name} mtu {mtu} up")  # set so, it does not follow that of the ports


def vif(name: str) -> None:
    """Make what netback makes of a guest's card: an interface that is down; `peer` is the guest."""
    ip(f"link add {name} type veth peer name peer{name.removeprefix('vif')}")


def _do(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "namespace")
