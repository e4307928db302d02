"""QEMU's own save of a guest that runs: its RAM and devices as of one moment.

With the capability `background-snapshot` QEMU stops the guest for some milliseconds, takes the
state of its devices, write-protects all RAM (userfaultfd) and lets the guest run on; a page that
the guest is about to change is sent first.  So each page is sent once, whatever the guest writes.

Facts that determine what is done here (QEMU 7.2, Linux 6.18):

* It needs RAM that can be write-protected: memory of the kernel's, or a file on tmpfs or hugetlbfs,
  and root, or a user who may use userfaultfd.  The capability is refused else.
* QEMU first reads all RAM, so that holes of a RAM file on tmpfs become pages of zeros.
* It starts the guest by itself, even if somebody else had stopped that: only for one that runs.
* **What is begun has to be read to its end.**  A QEMU that cannot write any more, or is asked to
  cancel, leaves the RAM write-protected, and the guest waits for ever at its next write.  So QEMU
  gets the reader's end of the pipe too: then it never breaks, and whoever comes can read the rest.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

from xenqemu.errors import DeviceModelError, HostTimeout
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.shown_text import shown
from xenqemu.system.deadline import Deadline
from xenqemu.system.outlived_pipe import OutlivedPipe

CAPABILITY = "background-snapshot"

FAST = 1 << 40
"""Bytes per second that QEMU may send: its default would be 128 MiB."""

_STREAM, _REST = "xenqemu-moment", "xenqemu-moment-rest"
_BUSY = ("setup", "active", "device", "cancelling", "wait-unplug", "pre-switchover")
_AGAIN = 0.01


@dataclass(frozen=True)
class Ended:
    """How a background snapshot ended: `downtime` in seconds, `trouble` in QEMU's words."""

    status: str
    downtime: float
    trouble: str


def bandwidth(device_model: DeviceModel) -> int:
    """Return how many bytes per second QEMU would send, which `enable` changes."""
    answer = device_model.execute("query-migrate-parameters")
    match answer:
        case {"max-bandwidth": int(limit)}:
            return limit
    raise DeviceModelError("query-migrate-parameters: there is no max-bandwidth")


def enable(device_model: DeviceModel) -> None:
    """Have the next migration be a background snapshot; raise `DeviceModelError` if refused."""
    _set_capability(device_model, True)
    _set_bandwidth(device_model, FAST)


def disable(device_model: DeviceModel, limit: int) -> None:
    """Undo `enable`, and close what QEMU has of the pipe; may be repeated."""
    _set_capability(device_model, False)
    _set_bandwidth(device_model, limit)
    for name in (_STREAM, _REST):
        with suppress(DeviceModelError):  # it has none of that name
            device_model.execute("closefd", {"fdname": name})


def begin(device_model: DeviceModel, pipe: OutlivedPipe) -> None:
    """Have QEMU begin, and close our writer's end of the pipe."""
    device_model.execute("getfd", {"fdname": _REST}, pipe.reader.fileno())
    device_model.execute("getfd", {"fdname": _STREAM}, pipe.writer.fileno())
    pipe.writer.close()
    device_model.execute("migrate", {"uri": f"fd:{_STREAM}"})


def await_end(device_model: DeviceModel, seconds: float) -> Ended:
    """Wait until no snapshot, nor another migration, is running; return how the last one ended."""
    deadline = Deadline.after(seconds)
    while (ended := _state(device_model)).status in _BUSY:
        if deadline.passed:
            raise HostTimeout(f"QEMU's background snapshot has not ended within {seconds:g} s")
        time.sleep(_AGAIN)
    return ended


def _state(device_model: DeviceModel) -> Ended:
    match device_model.execute("query-migrate"):
        case {"status": str(status), **more}:
            downtime, words = more.get("downtime"), more.get("error-desc")
            return Ended(
                shown(status),
                downtime / 1000 if isinstance(downtime, int) else 0.0,
                shown(words) if isinstance(words, str) else "",
            )
    return Ended("", 0.0, "")


def _set_capability(device_model: DeviceModel, state: bool) -> None:
    wanted = {"capability": CAPABILITY, "state": state}
    device_model.execute("migrate-set-capabilities", {"capabilities": [wanted]})


def _set_bandwidth(device_model: DeviceModel, limit: int) -> None:
    device_model.execute("migrate-set-parameters", {"max-bandwidth": limit})
