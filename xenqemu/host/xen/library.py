"""Xen's libraries by ctypes: finding the right ones, their prototypes, calling them.

libxenctrl and libxenguest have no stable interface: they carry Xen's version in their names, and
have to be those of the hypervisor that runs.  libxenforeignmemory, libxenevtchn and libxentoollog
are stable.  Some functions moved from libxenctrl to libxenguest, so each is looked for in all.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import (
    c_int,
    c_longlong,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
)
from errno import EACCES, EPERM
from pathlib import Path
from typing import Any, Self

from xenqemu.errors import HostError, HypervisorError
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.host.xen.releases import Version, dotted, release

SYSFS = Path("/sys/hypervisor")
LIBRARIES = (
    *("libxentoollog.so.1", "libxenevtchn.so.1", "libxenforeignmemory.so.1"),
    *("libxenctrl.so.{}", "libxenguest.so.{}"),
)

XTL_CRITICAL = 9
"""The libraries write on stderr what is at least as bad; their errors come to us by errno."""

DOMAIN_INFO_SIZE = 1024
"""Bytes to set aside for one xc_domaininfo_t: it has had 104 and 112."""


class HypercallBuffer(ctypes.Structure):
    """struct xc_hypercall_buffer of xenctrl.h: memory at `hbuf` that hypercalls may work on."""

    _fields_ = (
        ("hbuf", c_void_p),
        ("param_shadow", c_void_p),
        ("dir", c_int),
        ("ubuf", c_void_p),
        ("sz", c_size_t),
    )


_COUNT = ctypes.POINTER(c_uint32)

PROTOTYPES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "xtl_createlogger_stdiostream": (c_void_p, (c_void_p, c_int, c_uint)),
    "xc_interface_open": (c_void_p, (c_void_p, c_void_p, c_uint)),
    "xc_interface_close": (c_int, (c_void_p,)),
    "xc_domain_getinfolist": (c_int, (c_void_p, c_uint32, c_uint, c_void_p)),
    "xc_domain_pause": (c_int, (c_void_p, c_uint32)),
    "xc_domain_unpause": (c_int, (c_void_p, c_uint32)),
    "xc_domain_destroy": (c_int, (c_void_p, c_uint32)),
    "xc_domain_resume": (c_int, (c_void_p, c_uint32, c_int)),
    "xc_domain_shutdown": (c_int, (c_void_p, c_uint32, c_int)),
    "xc_domain_getvnuma": (
        c_int,
        (c_void_p, c_uint32, _COUNT, _COUNT, _COUNT, c_void_p, c_void_p, c_void_p),
    ),
    "xc_hvm_param_get": (c_int, (c_void_p, c_uint32, c_uint32, ctypes.POINTER(c_uint64))),
    "xc_domain_nr_gpfns": (c_int, (c_void_p, c_uint32, ctypes.POINTER(c_uint64))),
    "xc_get_pfn_type_batch": (c_int, (c_void_p, c_uint32, c_uint, c_void_p)),
    "xc_domain_get_tsc_info": (
        c_int,
        (c_void_p, c_uint32, _COUNT, ctypes.POINTER(c_uint64), _COUNT, _COUNT),
    ),
    "xc_domain_hvm_getcontext": (c_int, (c_void_p, c_uint32, c_void_p, c_uint32)),
    "xc_get_cpu_policy_size": (c_int, (c_void_p, _COUNT, _COUNT)),
    "xc_get_domain_cpu_policy": (
        c_int,
        (c_void_p, c_uint32, _COUNT, ctypes.POINTER(c_ubyte), _COUNT, ctypes.POINTER(c_ubyte)),
    ),
    "xc_get_system_cpu_policy": (
        c_int,
        (c_void_p, c_uint32, _COUNT, ctypes.POINTER(c_ubyte), _COUNT, ctypes.POINTER(c_ubyte)),
    ),
    "xc_cpu_policy_get_size": (c_int, (c_void_p, _COUNT, _COUNT)),
    "xc_cpu_policy_init": (c_void_p, ()),
    "xc_cpu_policy_destroy": (None, (c_void_p,)),
    "xc_cpu_policy_get_domain": (c_int, (c_void_p, c_uint32, c_void_p)),
    "xc_cpu_policy_get_system": (c_int, (c_void_p, c_uint, c_void_p)),
    "xc_cpu_policy_serialise": (
        c_int,
        (c_void_p, c_void_p, ctypes.POINTER(c_ubyte), _COUNT, ctypes.POINTER(c_ubyte), _COUNT),
    ),
    "xc__hypercall_buffer_alloc_pages": (c_void_p, (c_void_p, c_void_p, c_int)),
    "xc__hypercall_buffer_free_pages": (None, (c_void_p, c_void_p, c_int)),
    "xc_shadow_control": (  # before 4.16; later ones are not called
        c_int,
        (c_void_p, c_uint32, c_uint, c_void_p, c_ulong, c_void_p, c_uint32, c_void_p),
    ),
    "xc_logdirty_control": (
        c_longlong,
        (c_void_p, c_uint32, c_uint, c_void_p, c_ulong, c_uint, c_void_p),
    ),
    "xc_suspend_evtchn_init_exclusive": (
        c_int,
        (c_void_p, c_void_p, c_uint32, c_int, ctypes.POINTER(c_int)),
    ),
    "xc_suspend_evtchn_release": (
        c_int,
        (c_void_p, c_void_p, c_uint32, c_int, ctypes.POINTER(c_int)),
    ),
    "xenforeignmemory_open": (c_void_p, (c_void_p, c_uint)),
    "xenforeignmemory_close": (c_int, (c_void_p,)),
    "xenforeignmemory_map": (
        c_void_p,
        (c_void_p, c_uint32, c_int, c_size_t, c_void_p, c_void_p),
    ),
    "xenforeignmemory_unmap": (c_int, (c_void_p, c_void_p, c_size_t)),
    "xenevtchn_open": (c_void_p, (c_void_p, c_uint)),
    "xenevtchn_close": (c_int, (c_void_p,)),
    "xenevtchn_fd": (c_int, (c_void_p,)),
    "xenevtchn_notify": (c_int, (c_void_p, c_uint32)),
    "xenevtchn_pending": (c_int, (c_void_p,)),
    "xenevtchn_unmask": (c_int, (c_void_p, c_uint32)),
}
"""Result and arguments of each function; the same in all versions that have it."""


class Libraries:
    """The libraries of one version of Xen, loaded; raises `HostError` if one is missing."""

    def __init__(self, version: Version) -> None:
        self.release = release(version)
        self.version = version
        self._libraries = [_load(name.format(dotted(version))) for name in LIBRARIES]
        self._functions: dict[str, Callable[..., Any]] = {}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        """Return a function by its name; raise `HostError` if no library has it."""
        if name not in self._functions:
            self._functions[name] = self._find(name)
        return self._functions[name]

    def _find(self, name: str) -> Callable[..., Any]:
        for library in self._libraries:
            symbol = getattr(library, name, None)
            if symbol is not None:
                symbol.restype, symbol.argtypes = PROTOTYPES[name]
                function: Callable[..., Any] = symbol
                return function
        raise HostError(f"the libraries of Xen {dotted(self.version)} have no {name}")


class Xen:
    """The open control interface of the Xen that runs here; use it in a `with`, or `close` it.

    Raises `HostError` if this is no Xen host, if its Xen is too old, if a library is missing or
    not that of the hypervisor, or if the caller may not control Xen.
    """

    def __init__(self, version: Version | None = None, libraries: Libraries | None = None) -> None:
        self.libraries = libraries or Libraries(version or running_version())
        self.release = self.libraries.release
        self.version = self.libraries.version
        self.logger = self._quiet_logger()
        self._handle = self._open("xc_interface_open", self.logger, None, 0)
        self._closed = False
        try:
            self._require_control()
        except HostError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the interface back; may be repeated."""
        if not self._closed:
            self._closed = True
            self.libraries["xc_interface_close"](self._handle)

    def attempt(self, name: str, *arguments: object) -> tuple[int, int]:
        """Call a function with the handle before `arguments`; return its result and errno."""
        if self._closed:
            raise HypervisorError(f"{name}: the control interface of Xen is closed already")
        ctypes.set_errno(0)
        result: int = self.libraries[name](self._handle, *arguments)
        return result, ctypes.get_errno() if result < 0 else 0

    def call(self, name: str, *arguments: object) -> int:
        """Call as `attempt`; raise `HypervisorError` where it failed."""
        result, error = self.attempt(name, *arguments)
        if result < 0:
            raise failed(f"{name}{_shown(arguments)}", error)
        return result

    @contextmanager
    def handle_of(self, library: str) -> Iterator[c_void_p]:
        """Open the handle of a stable library ("xenevtchn", "xenforeignmemory") for the block."""
        handle = self._open(f"{library}_open", self.logger, 0)
        try:
            yield handle
        finally:
            self.libraries[f"{library}_close"](handle)

    @contextmanager
    def hypercall_buffer(self, size: int) -> Iterator[HypercallBuffer]:
        """Set `size` bytes aside that Xen may write to, rounded up to pages, for the block."""
        buffer = HypercallBuffer(ubuf=c_void_p(-1))  # no bounce buffer, says DECLARE_…_BUFFER
        given = (self._handle, ctypes.byref(buffer), -(-size // PAGE_SIZE))
        if self.libraries["xc__hypercall_buffer_alloc_pages"](*given) is None:
            raise HypervisorError(f"no memory for a hypercall buffer of {size} bytes")
        try:
            yield buffer
        finally:
            self.libraries["xc__hypercall_buffer_free_pages"](*given)

    def _open(self, name: str, *arguments: object) -> c_void_p:
        """Return the handle that a library's `…_open` gives; raise `HostError` if it gives none."""
        ctypes.set_errno(0)
        handle: int | None = self.libraries[name](*arguments)
        if handle is None:
            why = os.strerror(ctypes.get_errno())
            raise HostError(f"{name}: no access to Xen: {why} (is this root in dom0?)")
        return c_void_p(handle)

    def _quiet_logger(self) -> int | None:
        stderr = c_void_p.in_dll(ctypes.CDLL(None), "stderr")
        logger: int | None = self.libraries["xtl_createlogger_stdiostream"](stderr, XTL_CRITICAL, 0)
        return logger

    def _require_control(self) -> None:
        """Raise `HostError` unless Xen lets us control domains."""
        buffer = (c_ubyte * DOMAIN_INFO_SIZE)()
        result, error = self.attempt("xc_domain_getinfolist", 0, 1, buffer)
        if result >= 0:
            return
        version = dotted(self.version)
        reasons = {
            # What Xen answers to another version of the interface (do_sysctl, do_domctl).
            EACCES: f"libxenctrl.so.{version} does not match the running hypervisor",
            EPERM: "this domain may not control others (it is not dom0)",
        }
        raise HostError(f"no control over Xen: {reasons.get(error, os.strerror(error))}")


def running_version(sysfs: Path | None = None) -> Version:
    """Return the version of the Xen that runs this machine; raise `HostError` if none does."""
    version = (sysfs or SYSFS) / "version"
    try:
        major, minor = (int((version / part).read_text()) for part in ("major", "minor"))
    except (OSError, ValueError) as error:
        raise HostError(f"this machine does not run under Xen: {error}") from error
    return major, minor


def failed(what: str, error: int) -> HypervisorError:
    """Return the error for an errno."""
    return HypervisorError(f"{what}: {os.strerror(error)}")


def _shown(arguments: tuple[object, ...]) -> str:
    """Return the plain arguments of a call, for an error."""
    return f"({', '.join(str(value) for value in arguments if isinstance(value, int))})"


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name, use_errno=True)
    except OSError as error:
        raise HostError(f"a library of Xen is missing: {error}") from error
