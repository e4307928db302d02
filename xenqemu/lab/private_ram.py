"""The memory of a clone: a RAM file that it shares, and what its QEMU has instead of pages of it.

QEMU maps the file privately: what the guest writes is in QEMU alone.  It is read by way of
/proc/PID/mem, where pages of both kinds are.  That takes the rights of a debugger over QEMU:
root's, or its user's where the kernel lets one debug one's own (kernel.yama.ptrace_scope).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.stream.libxc_records import End
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import Live, Progress
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.memory.pages import WINDOW, image_space, page_entries, stretches, zero_pages
from xenqemu.lab.ram_file import begun, size_before_pages
from xenqemu.lab.ram_layout import Extent, RamLayout, extents

_PAGEMAP_ENTRY = 8
_PAGES_AT_ONCE = 1 << 20
_PRIVATE = bytes(1 if byte & 0xC0 and not byte & 0x20 else 0 for byte in range(256))
"""By the highest byte of an entry of /proc/PID/pagemap: there, or swapped, and of no file."""

_RUN = re.compile(rb"\x01+")


class PrivateRam:
    """The memory of one clone: `path` is its RAM file, `pid` its QEMU."""

    def __init__(self, path: Path, size: int, below: int, pid: int) -> None:
        self.path = path
        self.layout = RamLayout(size, below)
        self._proc = Path(f"/proc/{pid}")

    def space(self, _file: int | None = None, /) -> int:
        """Return how many bytes the image has at most, from what was touched of the RAM so far."""
        return image_space(self._touched().count(1))

    def counted_space(self, progress: Progress) -> int:
        """Return the same after a look at each page: those of zeros take eight bytes."""
        count = zeros = 0
        for extent, pages in self._pages():
            count += len(pages) // PAGE
            zeros += len(zero_pages(pages))
            progress(extent[1], self.layout.size)
        return image_space(count - zeros, zeros)

    def size_before_pages(self) -> int:
        """Return the bytes of an image before its pages."""
        return size_before_pages(self.layout)

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image: static end, pages, END; CPU state is the device model's here."""
        image = begun(out, self.layout)
        writer = PageWriter(image)
        for (start, end), pages in self._pages():
            zeros = zero_pages(pages)
            entries = page_entries(self.layout.pfn(start), len(pages) // PAGE, zeros)
            writer.write(PageData(entries.tobytes()), list(stretches(pages, zeros)))
            progress(end, self.layout.size)
        writer.flush()
        progress(self.layout.size, self.layout.size)
        image.write(End())

    def can_log_dirty(self) -> bool:
        """Return False: there is no log, and QEMU's memory cannot be mapped to be compared."""
        return False

    def save_live(self, _out: Sink, _progress: Progress, _live: Live) -> None:
        """Raise `HypervisorError`: see `can_log_dirty`."""
        raise HypervisorError("a clone cannot be saved in iterations")

    def load(self, _source: Source, _progress: Progress) -> None:
        """Raise `HypervisorError`: a clone has its memory from the start."""
        raise HypervisorError("the memory of a clone is there already")

    def _pages(self) -> Iterator[tuple[Extent, memoryview]]:
        """Yield the pages that were ever touched, a window's at most, in one buffer."""
        buffer = memoryview(bytearray(WINDOW))
        memory = self._opened("mem")
        try:
            for run in _RUN.finditer(self._touched()):
                for start, end in self.layout.cut((run.start() * PAGE, run.end() * PAGE), WINDOW):
                    pages = buffer[: end - start]
                    if os.preadv(memory, [pages], self._base + start) != len(pages):
                        raise HypervisorError(f"{self._proc}/mem: short read at {start:#x} of RAM")
                    yield (start, end), pages
        except OSError as error:
            raise HypervisorError(f"{self._proc}/mem: {error.strerror}") from error
        finally:
            os.close(memory)

    def _touched(self) -> bytearray:
        """Return, of each page, 1 if the file or QEMU has data there, 0 if neither has."""
        found = bytearray(self.layout.size // PAGE)
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, end in extents(file, 0, self.layout.size):
                found[start // PAGE : end // PAGE] = b"\1" * ((end - start) // PAGE)
        finally:
            os.close(file)
        for at, private in self._private():
            ours = int.from_bytes(found[at : at + len(private)], "little")
            both = ours | int.from_bytes(private, "little")
            found[at : at + len(private)] = both.to_bytes(len(private), "little")
        return found

    def _private(self) -> Iterator[tuple[int, bytes]]:
        """Yield (first page, a byte for each page: 1 if QEMU has its own) for all of the RAM."""
        pagemap = self._opened("pagemap")
        try:
            for at in range(0, self.layout.size // PAGE, _PAGES_AT_ONCE):
                count = min(_PAGES_AT_ONCE, self.layout.size // PAGE - at)
                place = (self._base // PAGE + at) * _PAGEMAP_ENTRY
                entries = os.pread(pagemap, count * _PAGEMAP_ENTRY, place)
                if len(entries) != count * _PAGEMAP_ENTRY:
                    raise HypervisorError(f"{self._proc}/pagemap ends within the guest's RAM")
                yield at, entries[_PAGEMAP_ENTRY - 1 :: _PAGEMAP_ENTRY].translate(_PRIVATE)
        finally:
            os.close(pagemap)

    def _opened(self, name: str) -> int:
        try:
            return os.open(self._proc / name, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            why = f"{self._proc / name}: {error.strerror}"
            raise HypervisorError(f"the memory of a clone is its QEMU's own: {why}") from error

    @cached_property
    def _base(self) -> int:
        """The address of the RAM in QEMU; later parts of its mapping follow the first."""
        inode = str(self.path.stat().st_ino)
        for line in (self._proc / "maps").read_text().splitlines():
            addresses, _rights, offset, _device, number, *_ = line.split(maxsplit=5)
            if number == inode and not int(offset, 16):
                return int(addresses.partition("-")[0], 16)
        raise HypervisorError(f"{self._proc}/maps: QEMU has not mapped {self.path}")
