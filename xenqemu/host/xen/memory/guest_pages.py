"""The pages of an HVM or PVH guest: of which type each is, and their contents, mapped.

Work per page is Xen's and the kernel's; here pages are handled by up to 1024, named by tables of
their numbers (pfns): u64, one after another.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char, c_int, c_void_p, sizeof
from mmap import PROT_READ
from os import strerror

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.host.memory.pages import BATCH
from xenqemu.host.xen.library import Xen, failed

NOTAB, BROKEN, XALLOC, XTAB = 0x00, 0xD0, 0xE0, 0xF0
"""The types of an HVM guest's pages (XEN_DOMCTL_PFINFO_*), as `GuestPages.types` gives them."""

_WORD = 8
_TYPE = 3
"""Xen puts the type into bits 28-31 of each word (XEN_DOMCTL_PFINFO_LTAB_SHIFT)."""

_HOLES = bytes([0, 0, 0, XTAB, 0, 0, 0, 0]) * BATCH
_NO_ERRORS = bytes(BATCH * sizeof(c_int))
_KNOWN = bytes([NOTAB, BROKEN, XALLOC, XTAB])


class Unmappable(HypervisorError):
    """Pages that had a type but could not be mapped, by their numbers."""

    def __init__(self, message: str, pfns: Sequence[int]) -> None:
        super().__init__(message)
        self.pfns = pfns


class GuestPages:
    """The pages of one guest, while its foreign-memory `handle` is open."""

    def __init__(self, xen: Xen, handle: c_void_p, domid: int) -> None:
        self._xen = xen
        self._handle = handle
        self._domid = domid
        # One buffer for all calls: a guest has a thousand batches of holes.
        self._words = bytearray(BATCH * _WORD)
        self._address = (c_char * len(self._words)).from_buffer(self._words)

    def types(self, pfns: bytes) -> bytes:
        """Return the type of each of these pages, one byte each; nothing if all are holes.

        Raises `HypervisorError` for types that no HVM guest has.  Beyond the last page are holes.
        """
        size = len(pfns)
        self._words[:size] = pfns
        self._xen.call("xc_get_pfn_type_batch", self._domid, size // _WORD, self._address)
        words = self._words[:size]
        if words == _HOLES[:size]:
            return b""
        types = bytes(words[_TYPE::_WORD])
        strange = types.translate(None, _KNOWN)
        if strange:
            at = types.index(strange[0])
            what = f"pfn {_pfn(pfns, at):#x} has the type {types[at] >> 4:#x}"
            raise HypervisorError(f"{what}, which no HVM page has")
        return types

    @contextmanager
    def mapped(self, pfns: bytes) -> Iterator[memoryview]:
        """Map these pages side by side for the block (bytes, read-only).

        Raises `Unmappable` if some of them cannot be.
        """
        count = len(pfns) // _WORD
        if not count:
            yield memoryview(b"")
            return
        with self._mapping(pfns, count) as address:
            pages = (c_char * (count * PAGE_SIZE)).from_address(address)
            yield memoryview(pages).cast("B").toreadonly()

    @contextmanager
    def _mapping(self, pfns: bytes, count: int) -> Iterator[int]:
        errors = (c_int * count)()
        ctypes.set_errno(0)
        arguments = (self._handle, self._domid, PROT_READ, count, pfns, errors)
        address: int | None = self._xen.libraries["xenforeignmemory_map"](*arguments)
        if address is None:
            raise failed(f"mapping {count} pages of domain {self._domid}", ctypes.get_errno())
        try:
            if bytes(errors) != _NO_ERRORS[: sizeof(errors)]:
                raise _unmappable(pfns, errors[:])
            yield address
        finally:
            self._xen.libraries["xenforeignmemory_unmap"](self._handle, address, count)


@contextmanager
def guest_pages(xen: Xen, domid: int) -> Iterator[GuestPages]:
    """Open a guest's pages for a block, in one thread: each has a handle of its own."""
    with xen.handle_of("xenforeignmemory") as handle:
        yield GuestPages(xen, handle, domid)


def _unmappable(pfns: bytes, errors: Sequence[int]) -> Unmappable:
    failures = {_pfn(pfns, index): error for index, error in enumerate(errors) if error}
    pfn, error = next(iter(failures.items()))
    message = f"pfn {pfn:#x} is populated but not mappable: {strerror(-error)}"
    return Unmappable(message, tuple(failures))


def _pfn(pfns: bytes, index: int) -> int:
    return int.from_bytes(pfns[index * _WORD : (index + 1) * _WORD], "little")
