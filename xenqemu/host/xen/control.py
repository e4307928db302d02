"""Operations on a domain and queries about it, by libxenctrl."""

from __future__ import annotations

import ctypes
import select
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_int, c_ubyte, c_uint32, c_uint64, c_void_p
from errno import EOPNOTSUPP, ESRCH

from xenqemu.errors import HypervisorError
from xenqemu.host.xen.domain_info import XenDomain
from xenqemu.host.xen.library import DOMAIN_INFO_SIZE, Xen, failed

ACPI_S_STATE = 14
"""HVM_PARAM_ACPI_S_STATE: not zero while the guest sleeps."""


class Control:
    """The control interface; every method but `domain` raises `HypervisorError` if Xen refuses."""

    def __init__(self, xen: Xen) -> None:
        self._xen = xen

    def domain(self, domid: int) -> XenDomain | None:
        """Return what Xen says of a domain, None if there is none of that id."""
        buffer = (c_ubyte * DOMAIN_INFO_SIZE)()
        found = self._xen.call("xc_domain_getinfolist", domid, 1, buffer)
        # Where there is none of that id, Xen goes on to the next one.
        domain = XenDomain.unpack(bytes(buffer))
        return domain if found and domain.domid == domid else None

    def existing(self, domid: int) -> XenDomain:
        """Return what Xen says of a domain; raise `HypervisorError` if there is none."""
        domain = self.domain(domid)
        if domain is None:
            raise HypervisorError(f"there is no domain {domid}")
        return domain

    def pause(self, domid: int) -> None:
        """Pause the vcpus; Xen counts pauses."""
        self._xen.call("xc_domain_pause", domid)

    def unpause(self, domid: int) -> None:
        """Undo one pause."""
        self._xen.call("xc_domain_unpause", domid)

    def destroy(self, domid: int) -> None:
        """End a domain; nothing if there is none."""
        result, error = self._xen.attempt("xc_domain_destroy", domid)
        if result < 0 and error != ESRCH:
            raise failed(f"xc_domain_destroy({domid})", error)

    def resume(self, domid: int) -> None:
        """Resume a suspended guest; if it made the suspend hypercall, that returns 1 (cancelled).

        That is libxc's fast resume, which leaves the guest connected to its devices.
        """
        self._xen.call("xc_domain_resume", domid, 1)

    def shutdown(self, domid: int, reason: int) -> None:
        """Put a domain into the state that its own SCHEDOP_shutdown would."""
        self._xen.call("xc_domain_shutdown", domid, reason)

    def has_vnuma(self, domid: int) -> bool:
        """Return whether the guest sees NUMA nodes; any answer but EOPNOTSUPP counts as yes."""
        counts = [byref(c_uint32(0)) for _ in range(3)]
        result, error = self._xen.attempt("xc_domain_getvnuma", domid, *counts, None, None, None)
        return result == 0 or error != EOPNOTSUPP

    def hvm_param(self, domid: int, index: int) -> int:
        """Return one HVM_PARAM_*."""
        value = c_uint64(0)
        self._xen.call("xc_hvm_param_get", domid, index, byref(value))
        return value.value

    def require_awake(self, domid: int) -> None:
        """Raise `HypervisorError` if an HVM or PVH guest sleeps in ACPI S3.

        No image has ACPI_S_STATE: a restored guest would count as awake, and never wake.
        """
        if self.hvm_param(domid, ACPI_S_STATE):
            raise HypervisorError(
                f"domain {domid} sleeps in ACPI S3, which no save file can say: "
                f"wake it first (xl trigger {domid} s3resume)"
            )

    def gpfns(self, domid: int) -> int:
        """Return the number above the guest's highest page number."""
        number = c_uint64(0)
        self._xen.call("xc_domain_nr_gpfns", domid, byref(number))
        return number.value

    @contextmanager
    def suspend_channel(self, domid: int, port: int) -> Iterator[SuspendChannel]:
        """Bind the event channel for suspend requests to the guest, for the block.

        libxc locks it against other savers; raises `HypervisorError` if it is taken or gone.
        """
        lock = c_int(-1)
        with self._xen.handle_of("xenevtchn") as channels:
            binding = (channels, domid, port, byref(lock))
            local = self._xen.call("xc_suspend_evtchn_init_exclusive", *binding)
            try:
                yield SuspendChannel(self._xen, channels, local)
            finally:
                # What it returns says nothing: it is -1 even where all went well.
                ending = (channels, domid, local, byref(lock))
                self._xen.attempt("xc_suspend_evtchn_release", *ending)


class SuspendChannel:
    """An event channel to a guest; `port` is our end."""

    def __init__(self, xen: Xen, channels: c_void_p, port: int) -> None:
        self._libraries = xen.libraries
        self._channels = channels
        self._port = port

    def notify(self) -> None:
        """Ask the guest to suspend."""
        self._call("xenevtchn_notify", self._port)

    def wait(self, seconds: float) -> None:
        """Wait until Xen says that the guest has stopped, for `seconds` at most."""
        readable, _, _ = select.select([self._call("xenevtchn_fd")], [], [], seconds)
        if readable:
            self._call("xenevtchn_unmask", self._call("xenevtchn_pending"))

    def _call(self, name: str, *arguments: int) -> int:
        ctypes.set_errno(0)
        result: int = self._libraries[name](self._channels, *arguments)
        if result < 0:
            raise failed(name, ctypes.get_errno())
        return result
