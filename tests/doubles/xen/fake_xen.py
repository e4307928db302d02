"""Xen's libraries in Python, behind their real prototypes: domains in memory, errors by errno.

Each function is a C function pointer, so that every call is converted as a call of the real
library is.  A domain is a `Guest`, which tests change as they please.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EINVAL, EIO, ENOENT, EOPNOTSUPP, ESRCH
from typing import Any
from uuid import UUID

from xenqemu.host.xen.domain_info import HVM, LAYOUT, PAUSED, REASON_SHIFT, SHUTDOWN
from xenqemu.host.xen.library import PROTOTYPES, HypercallBuffer, Libraries, Xen
from xenqemu.host.xen.releases import Version, release

PAGE = 4096
XTAB = 0xF << 28
UUID_OF_ALL = UUID("1c45a064-edb5-48a8-a742-b09c9432aa1c")
LOGGER, INTERFACE, MEMORY, CHANNELS, POLICY = 0x10, 0x20, 0x1000, 0x40, 0x50
LEAVES = bytes(range(48))
MOST_LEAVES = {2: bytes(range(100, 124)), 3: bytes(range(100, 172))}
MSRS = (0xCE).to_bytes(4, "little") + bytes(4) + (1 << 31).to_bytes(8, "little")
LOCAL_PORT = 33


@dataclass
class Guest:
    """One domain; `pages` are by pfn, `types` those (<< 28) that are not ordinary ones.

    `logged` is the dirty log, None while it is off; `mapped` are the pages that Xen itself has
    mapped to write, which count as dirty at the last look.
    """

    flags: int = HVM
    pages: dict[int, bytes] = field(default_factory=dict)
    types: dict[int, int] = field(default_factory=dict)
    unmappable: set[int] = field(default_factory=set)
    params: dict[int, int] = field(default_factory=dict)
    context: bytes = b"context"
    tsc: tuple[int, int, int, int] = (1, 5_000_000_000, 2_400_000, 3)
    paged: int = 0
    vcpus: int = 2
    vnuma: int = EOPNOTSUPP
    holds: int = 0
    in_io: bool = False
    shutting_down: int | None = None
    logged: set[int] | None = None
    mapped: set[int] = field(default_factory=set)

    def write(self, pfn: int, contents: bytes) -> None:
        """Write to a page, which is logged if the dirty log is on."""
        assert pfn in self.pages
        self.pages[pfn] = contents
        if self.logged is not None:
            self.logged.add(pfn)

    def shut_down(self, reason: int) -> None:
        """Shut down; where a paused vcpu is `in_io`, only once it is paused no more."""
        self.shutting_down = reason
        if not (self.in_io and self.holds):
            self.flags |= SHUTDOWN | reason << REASON_SHIFT

    def unpause(self) -> None:
        self.holds -= 1
        if self.shutting_down is not None:
            self.shut_down(self.shutting_down)

    def info(self, domid: int) -> bytes:
        flags = self.flags | (PAUSED if self.holds else 0)
        counts = (len(self.pages), 0, 0, 0, self.paged, 0, 0)
        return LAYOUT.pack(domid, 0, flags, *counts, self.vcpus, 0, 0, UUID_OF_ALL.bytes)


class FakeLibraries(Libraries):
    """`calls` are the names of what was called; `refusals` answers with that errno instead.

    `failing` is the number of a call, from 0, that fails with EIO.
    """

    def __init__(self, version: Version = (4, 17)) -> None:
        self.release = release(version)
        self.version = version
        self.guests: dict[int, Guest] = {}
        self.refusals: dict[str, int] = {}
        self.calls: list[str] = []
        self.failing: int | None = None
        self.mappings: dict[int, object] = {}
        self.memories: dict[int, set[int]] = {}
        self.policy = b""
        self.notified: Callable[[], None] = lambda: None
        self.event_pipe = os.pipe()
        self._functions = {}
        self._numbers = itertools.count(MEMORY)

    def close(self) -> None:
        for fd in self.event_pipe:
            os.close(fd)

    def _find(self, name: str) -> Callable[..., Any]:
        restype, argtypes = PROTOTYPES[name]
        # ctypes has no callback that takes a typed pointer by its address: addresses they are.
        plain = [t if t in _PLAIN else ctypes.c_void_p for t in argtypes]
        pointer = ctypes.CFUNCTYPE(restype, *plain, use_errno=True)(self._function(name))
        function = ctypes.CFUNCTYPE(restype, *argtypes, use_errno=True)(
            ctypes.cast(pointer, ctypes.c_void_p).value
        )
        function.callback = pointer  # type: ignore[attr-defined]
        return function

    def _function(self, name: str) -> Callable[..., object]:
        def function(*arguments: int) -> object:
            body = getattr(self, name)  # a test may have put another one there
            self.calls.append(name)
            error = self.refusals.get(name)
            if len(self.calls) - 1 == self.failing:
                error = EIO
            try:
                if error is None:
                    return body(*arguments)
            except OSError as raised:
                error = raised.errno
            ctypes.set_errno(error)
            return None if PROTOTYPES[name][0] in {ctypes.c_void_p, None} else -1

        return function

    def xtl_createlogger_stdiostream(self, file: int, level: int, flags: int) -> int:
        assert file
        assert (level, flags) == (9, 0)
        return LOGGER

    def xc_interface_open(self, logger: int, dombuild: int | None, flags: int) -> int:
        assert (logger, dombuild, flags) == (LOGGER, None, 0)
        return INTERFACE

    def xc_interface_close(self, handle: int) -> int:
        assert handle == INTERFACE
        return 0

    def xc_domain_getinfolist(self, handle: int, first: int, count: int, info: int) -> int:
        assert (handle, count) == (INTERFACE, 1)
        found = [domid for domid in sorted(self.guests) if domid >= first]
        if found:
            _put(info, self.guests[found[0]].info(found[0]))
        return len(found[:1])

    def xc_domain_pause(self, handle: int, domid: int) -> int:
        self.guest(domid).holds += 1
        return 0

    def xc_domain_unpause(self, handle: int, domid: int) -> int:
        if not self.guest(domid).holds:
            raise OSError(EINVAL, "not held")
        self.guest(domid).unpause()
        return 0

    def xc_domain_destroy(self, handle: int, domid: int) -> int:
        self.guest(domid)
        del self.guests[domid]
        return 0

    def xc_domain_resume(self, handle: int, domid: int, fast: int) -> int:
        assert fast == 1
        guest = self.guest(domid)
        if not guest.flags & SHUTDOWN:
            raise OSError(EINVAL, "not shut down")
        guest.flags &= HVM
        guest.shutting_down = None
        return 0

    def xc_domain_shutdown(self, handle: int, domid: int, reason: int) -> int:
        self.guest(domid).shut_down(reason)
        return 0

    def xc_domain_getvnuma(self, handle: int, domid: int, *rest: int | None) -> int:
        assert [place is None for place in rest] == [False] * 3 + [True] * 3
        if self.guest(domid).vnuma:
            raise OSError(self.guest(domid).vnuma, "as told")
        return 0

    def xc_hvm_param_get(self, handle: int, domid: int, index: int, value: int) -> int:
        _put(value, self.guest(domid).params.get(index, 0).to_bytes(8, "little"))
        return 0

    def xc_domain_nr_gpfns(self, handle: int, domid: int, number: int) -> int:
        guest = self.guest(domid)
        _put(number, (max([-1, *guest.pages, *guest.types]) + 1).to_bytes(8, "little"))
        return 0

    def xc_get_pfn_type_batch(self, handle: int, domid: int, count: int, words: int) -> int:
        guest = self.guest(domid)
        assert 0 < count <= 1024
        table = (ctypes.c_uint64 * count).from_address(words)
        table[:] = [guest.types.get(pfn, 0 if pfn in guest.pages else XTAB) for pfn in list(table)]
        return 0

    def xc_domain_get_tsc_info(self, handle: int, domid: int, *places: int) -> int:
        values = self.guest(domid).tsc  # mode, nsec, khz, incarnation
        for place, size, value in zip(places, (4, 8, 4, 4), values, strict=True):
            _put(place, value.to_bytes(size, "little"))
        return 0

    def xc_domain_hvm_getcontext(
        self, handle: int, domid: int, buffer: int | None, size: int
    ) -> int:
        context = self.guest(domid).context
        if buffer is None:
            return len(context) + 8  # Xen tells the most bytes needed
        _put(buffer, context[:size])
        return len(context)

    def xc_get_cpu_policy_size(self, handle: int, leaves: int, msrs: int) -> int:
        _put(leaves, (7).to_bytes(4, "little"))
        _put(msrs, (3).to_bytes(4, "little"))
        return 0

    xc_cpu_policy_get_size = xc_get_cpu_policy_size

    def xc_get_domain_cpu_policy(self, handle: int, domid: int, *places: int) -> int:
        self.guest(domid)
        return self._give_policy(LEAVES, *places)

    def xc_get_system_cpu_policy(self, handle: int, index: int, *places: int) -> int:
        return self._give_policy(MOST_LEAVES[index], *places)

    def _give_policy(
        self, all_leaves: bytes, nr_leaves: int, leaves: int, nr_msrs: int, msrs: int
    ) -> int:
        for number, place, data, size in (
            (nr_leaves, leaves, all_leaves, 24),
            (nr_msrs, msrs, MSRS, 16),
        ):
            assert int.from_bytes(ctypes.string_at(number, 4), "little") * size >= len(data)
            _put(place, data)
            _put(number, (len(data) // size).to_bytes(4, "little"))
        return 0

    def xc_cpu_policy_init(self) -> int:
        return POLICY

    def xc_cpu_policy_destroy(self, policy: int) -> None:
        assert policy == POLICY

    def xc_cpu_policy_get_domain(self, handle: int, domid: int, policy: int) -> int:
        self.guest(domid)
        assert policy == POLICY
        self.policy = LEAVES
        return 0

    def xc_cpu_policy_get_system(self, handle: int, index: int, policy: int) -> int:
        assert policy == POLICY
        self.policy = MOST_LEAVES[index]
        return 0

    def xc_cpu_policy_serialise(self, handle: int, policy: int, *places: int) -> int:
        assert policy == POLICY
        leaves, nr_leaves, msrs, nr_msrs = places
        return self._give_policy(self.policy, nr_leaves, leaves, nr_msrs, msrs)

    def xc_suspend_evtchn_init_exclusive(
        self, handle: int, channels: int, domid: int, port: int, lock: int
    ) -> int:
        assert (channels, port) == (CHANNELS, 5)
        _put(lock, (77).to_bytes(4, "little"))
        return LOCAL_PORT

    def xc_suspend_evtchn_release(
        self, handle: int, channels: int, domid: int, port: int, lock: int
    ) -> int:
        assert (channels, port) == (CHANNELS, LOCAL_PORT)
        assert ctypes.string_at(lock, 4) == (77).to_bytes(4, "little")
        return -1  # as the real one, always

    def xenevtchn_open(self, logger: int, flags: int) -> int:
        return CHANNELS

    def xenevtchn_close(self, channels: int) -> int:
        return 0

    def xenevtchn_fd(self, channels: int) -> int:
        return self.event_pipe[0]

    def xenevtchn_notify(self, channels: int, port: int) -> int:
        assert port == LOCAL_PORT
        self.notified()
        return 0

    def xenevtchn_pending(self, channels: int) -> int:
        return os.read(self.event_pipe[0], 1)[0]

    def xenevtchn_unmask(self, channels: int, port: int) -> int:
        assert port == LOCAL_PORT
        return 0

    def happen(self) -> None:
        """Have Xen tell that the guest stopped, by our end of the channel."""
        os.write(self.event_pipe[1], bytes([LOCAL_PORT]))

    def xc__hypercall_buffer_alloc_pages(self, handle: int, buffer: int, count: int) -> int:
        assert handle == INTERFACE
        given = HypercallBuffer.from_address(buffer)
        assert (given.hbuf, given.param_shadow, given.dir) == (None, None, 0)
        assert (given.ubuf, given.sz) == (2**64 - 1, 0)
        pages = ctypes.create_string_buffer(count * PAGE)
        given.hbuf = ctypes.addressof(pages)
        self.mappings[given.hbuf] = pages
        return int(given.hbuf)

    def xc__hypercall_buffer_free_pages(self, handle: int, buffer: int, count: int) -> None:
        address = HypercallBuffer.from_address(buffer).hbuf
        assert ctypes.sizeof(self.mappings[address]) == count * PAGE  # type: ignore[arg-type]
        del self.mappings[address]

    def xc_shadow_control(self, handle: int, domid: int, operation: int, *rest: int) -> int:
        assert self.version < (4, 16)
        bitmap, pages, megabytes, mode, stats = rest
        assert megabytes is None
        return self.xc_logdirty_control(handle, domid, operation, bitmap, pages, mode, stats)

    def xc_logdirty_control(self, handle: int, domid: int, operation: int, *rest: int) -> int:
        bitmap, pages, mode, stats = rest
        assert (handle, stats) == (INTERFACE, None)
        guest = self.guest(domid)
        if operation == 2:  # ENABLE_LOGDIRTY
            if guest.logged is not None:
                raise OSError(EINVAL, "on already")
            guest.logged = set()
        elif operation == 0:  # OFF
            guest.logged = None
        else:
            assert operation == 11  # CLEAN
            assert guest.logged is not None
            self._clean(guest, bitmap, pages, final=mode == 1)
        return pages

    def _clean(self, guest: Guest, bitmap: int, pages: int, *, final: bool) -> None:
        assert guest.logged is not None
        dirty = guest.logged | (guest.mapped if final else set())
        guest.logged = set()
        assert all(pfn < pages for pfn in dirty)
        place = HypercallBuffer.from_address(bitmap).hbuf
        bits = sum(1 << pfn for pfn in dirty)
        _put(place, bits.to_bytes((pages + 7) // 8, "little"))

    def xenforeignmemory_open(self, logger: int, flags: int) -> int:
        assert (logger, flags) == (LOGGER, 0)
        handle = next(self._numbers)
        self.memories[handle] = set()
        return handle

    def xenforeignmemory_close(self, handle: int) -> int:
        assert not self.memories.pop(handle)
        return 0

    def xenforeignmemory_map(self, handle: int, domid: int, prot: int, *pages: int) -> int:
        assert prot == 1
        count, pfns, errors = pages
        guest = self.guest(domid)
        wanted = list((ctypes.c_uint64 * count).from_address(pfns))
        for at, pfn in enumerate(wanted):
            bad = pfn in guest.unmappable or pfn not in guest.pages
            _put(errors + 4 * at, (-ENOENT if bad else 0).to_bytes(4, "little", signed=True))
        contents = b"".join(guest.pages.get(pfn, bytes(PAGE)) for pfn in wanted)
        mapping = ctypes.create_string_buffer(contents, len(contents))
        self.mappings[ctypes.addressof(mapping)] = mapping
        self.memories[handle].add(ctypes.addressof(mapping))
        return ctypes.addressof(mapping)

    def xenforeignmemory_unmap(self, handle: int, address: int, count: int) -> int:
        assert ctypes.sizeof(self.mappings[address]) == count * PAGE  # type: ignore[arg-type]
        self.memories[handle].remove(address)
        del self.mappings[address]
        return 0

    def guest(self, domid: int) -> Guest:
        if domid not in self.guests:
            raise OSError(ESRCH, "no such domain")
        return self.guests[domid]


_PLAIN = (
    *(ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_uint32, ctypes.c_uint64),
    *(ctypes.c_size_t, ctypes.c_ulong, ctypes.c_longlong),
)


def fake_xen(version: Version = (4, 17)) -> tuple[FakeLibraries, Xen]:
    """Return the libraries and the interface opened through them."""
    libraries = FakeLibraries(version)
    return libraries, Xen(libraries=libraries)


def _put(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))
