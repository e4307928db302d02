"""The pages of an HVM or PVH guest that runs, by Xen's log of those that are written to.

A guest may give pages back while it runs, and get others (ballooning).  A page that went is a hole
and left out.  Xen does not log a page that came until the next query; so when the guest has got
more or fewer pages than at the last query, all of them count as changed.  Unseen stays only a guest
that gets just as many as it gives back between two queries, which libxc would not see either.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc import ImageWriter
from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.host.domain import RunState
from xenqemu.host.guest_memory import Progress
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import BATCH, page_numbers
from xenqemu.host.memory.workers import in_threads
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.dirty_log import DirtyLog
from xenqemu.host.xen.memory.guest_pages import XTAB, GuestPages, Unmappable, guest_pages
from xenqemu.host.xen.memory.page_records import reporting, write_pages

_PIECE = BATCH // 8
"""Bytes of a bitmap that are looked at together."""

_NONE, _WHOLE = bytes(_PIECE), b"\xff" * _PIECE

_BITS = [bytes(byte >> bit & 1 for bit in range(8)) for byte in range(256)]
"""What each byte of a bitmap says of its eight pages, a byte a page."""


class LoggedPages:
    """Those pages, as `ChangingPages`: to be made before the log is begun, used while it is on.

    `elide_zeros` is whether pages of zeros are written as XALLOC, in what is written first.
    """

    def __init__(self, xen: Xen, domid: int, writer: ImageWriter, *, elide_zeros: bool) -> None:
        self._control = Control(xen)
        self._xen = xen
        self._log = DirtyLog(xen, domid)
        self._domid = domid
        self._writer = PageWriter(writer)
        self._elide_zeros = elide_zeros
        self._suspended = False
        self._pages = self._control.existing(domid).pages
        self._next = _all(self._control.gpfns(domid))

    def write(self, progress: Progress) -> int:
        """Write the pages that are to be written, holes left out."""
        bitmap, self._next = self._next, 0
        counts: list[int] = []
        total = self._number(bitmap) * PAGE_SIZE

        @contextmanager
        def worker() -> Iterator[Callable[[bytes], int]]:
            with guest_pages(self._xen, self._domid) as guest:

                def write(pfns: bytes) -> int:
                    count = self._write(guest, pfns)
                    counts.append(count)
                    return count * PAGE_SIZE

                yield write

        in_threads(_tables(bitmap), worker, reporting(progress, total), self._writer.threads)
        self._writer.flush()
        progress(total, total)
        self._elide_zeros = False
        return sum(counts)

    def find_changed(self, *, suspended: bool) -> int:
        """Take Xen's log; raise `HypervisorError` if the guest is to be suspended and is not."""
        self._suspended = suspended
        domain = self._control.existing(self._domid)
        if suspended and domain.run_state is not RunState.SUSPENDED:
            raise HypervisorError(f"domain {self._domid} is {domain}, not suspended")
        # Counted before the log is taken: what comes in between shows at the next query.
        before, self._pages = self._pages, domain.pages
        gpfns = self._control.gpfns(self._domid)
        changed = int.from_bytes(self._log.take(gpfns, final=suspended), "little")
        self._next |= changed if self._pages == before else _all(gpfns)
        return self._number(self._next)

    def _number(self, bitmap: int) -> int:
        return min(bitmap.bit_count(), self._pages)

    def _write(self, guest: GuestPages, pfns: bytes) -> int:
        types = guest.types(pfns)
        while types:
            try:
                options = {"elide_zeros": self._elide_zeros}
                return write_pages(guest, pfns, types, self._writer, **options)
            except Unmappable as error:
                if self._suspended:
                    raise
                types = _without(error.pfns, pfns, types)  # a running guest gave them back
        return 0


def _all(count: int) -> int:
    """Return a bitmap of so many pages, all set."""
    return (1 << count) - 1


def _tables(bitmap: int) -> Iterator[bytes]:
    """Yield the numbers (u64) of the pages whose bits are set, up to 1024 a table."""
    data = bitmap.to_bytes(-(-bitmap.bit_length() // 8), "little")
    pfns = array("Q")
    for at in range(0, len(data), _PIECE):
        piece = data[at : at + _PIECE]
        if piece == _WHOLE and not pfns:
            yield page_numbers(at * 8)
        elif piece != _NONE:
            flags = b"".join([_BITS[byte] for byte in piece])
            pfns.extend(compress(range(at * 8, at * 8 + BATCH), flags))
        while len(pfns) >= BATCH:
            yield pfns[:BATCH].tobytes()
            del pfns[:BATCH]
    if pfns:
        yield pfns.tobytes()


def _without(gone: Sequence[int], pfns: bytes, types: bytes) -> bytes:
    """Return the types with those of `gone` pages being holes."""
    numbers = memoryview(pfns).cast("Q")
    return bytes(XTAB if pfn in gone else kind for pfn, kind in zip(numbers, types, strict=True))
