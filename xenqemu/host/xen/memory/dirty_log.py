"""The dirty log: which pages of a guest are written to while it runs.

Two parties write to a guest's memory.  What its vcpus and Xen write, Xen logs by itself once the
log is on; what its QEMU writes, QEMU has to tell Xen, once that is switched on too (over QMP,
by xen-set-global-dirty-log).  Both make the guest slower, so both are switched off in any case.

As libxc does (xg_sr_save.c): a log that is on already, for the frame buffer, is switched off and on
again; the last query says LOGDIRTY_FINAL, for which Xen adds what it has mapped itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EINVAL, EOPNOTSUPP
from typing import TYPE_CHECKING

from xenqemu.errors import HostError, HypervisorError
from xenqemu.host.xen.library import Xen, failed
from xenqemu.host.xen.releases import DirtyLogCall

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel

OFF, ENABLE_LOGDIRTY, CLEAN = 0, 2, 11
"""XEN_DOMCTL_SHADOW_OP_* of domctl.h."""

LOGDIRTY_FINAL = 1
"""XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL."""

SWITCH = "xen-set-global-dirty-log"

DeviceLog = Callable[[bool], None]
"""Has the device model tell Xen what it writes (True), or no longer."""


class DirtyLog:
    """Xen's log of one domain; every method raises `HypervisorError` if Xen refuses."""

    def __init__(self, xen: Xen, domid: int) -> None:
        self._xen = xen
        self._domid = domid

    def start(self) -> None:
        """Begin a log that is empty."""
        try:
            self._do(ENABLE_LOGDIRTY)
        except HypervisorError:  # it may be on: for the frame buffer, or left by a killed save
            self.stop()
            self._do(ENABLE_LOGDIRTY)

    def possible(self) -> bool:
        """Return whether there can be one: not for PV guests of a Xen without shadow paging."""
        name, arguments = self._call(ENABLE_LOGDIRTY)
        result, error = self._xen.attempt(name, *arguments)
        if result < 0 and error == EOPNOTSUPP:
            return False
        self.stop()
        return True

    def stop(self) -> None:
        """End the log; nothing if there is none."""
        name, arguments = self._call(OFF)
        result, error = self._xen.attempt(name, *arguments)
        # EINVAL: there cannot be one, as for a PV guest where Xen has no shadow paging.
        if result < 0 and error != EINVAL:
            raise failed(
                f"{name}: the dirty log of domain {self._domid} could not be switched off", error
            )

    def take(self, pages: int, *, final: bool) -> bytes:
        """Return a bit a page, the first in bit 0, of what was dirty_log_on, and forget it.

        `final` is for a suspended guest: what Xen has mapped of it for writing counts too.
        """
        size = -(-pages // 8)
        with self._xen.hypercall_buffer(size) as bitmap:
            mode = LOGDIRTY_FINAL if final else 0
            count = self._do(CLEAN, ctypes.byref(bitmap), pages, mode)
            if count != pages:
                raise HypervisorError(f"the dirty log covers {count} pages, not {pages}")
            return ctypes.string_at(bitmap.hbuf or 0, size)

    def _do(self, operation: int, bitmap: object = None, pages: int = 0, mode: int = 0) -> int:
        name, arguments = self._call(operation, bitmap, pages, mode)
        return self._xen.call(name, *arguments)

    def _call(
        self, operation: int, bitmap: object = None, pages: int = 0, mode: int = 0
    ) -> tuple[str, tuple[object, ...]]:
        call = self._xen.release.dirty_log
        megabytes = (None,) if call is DirtyLogCall.SHADOW else ()
        return call.value, (self._domid, operation, bitmap, pages, *megabytes, mode, None)


def switch_device_log(device_model: DeviceModel | None, *, on: bool) -> None:
    """Switch a device model's dirty log on or off; nothing if there is no device model.

    QEMU from 6.1 on aborts if it switches off a log that is not on.  To switch on one that is on
    has no effect, so that comes first in any case.
    """
    if device_model is None:
        return
    with device_model:
        device_model.execute(SWITCH, {"enable": True})
        if not on:
            device_model.execute(SWITCH, {"enable": False})


@contextmanager
def dirty_log_on(log: DirtyLog, device_log: DeviceLog) -> Iterator[None]:
    """Log all that is written to a guest's memory, for the block.

    Whatever fails, both logs are switched off; if that fails too, the first error gets a note.
    """
    try:
        device_log(True)
        log.start()
        yield
    except BaseException as error:
        try:
            stop(log, device_log)
        except HostError as second:
            error.add_note(f"the dirty log may still be on: {second}")
        raise
    stop(log, device_log)


def stop(log: DirtyLog, device_log: DeviceLog) -> None:
    """Switch both logs off; may be repeated, and called when both are off."""
    try:
        log.stop()
    finally:
        device_log(False)
