"""Guest memory as of one moment: QEMU's background snapshot, repacked on the way to the save file.

QEMU sends its RAM page by page to a pipe, in the order in which the guest wants to write it, and
the state of its devices behind it (`formats.device_state.ram_stream`).  Pages go from the buffer
they were read to into PAGE_DATA records.  Blocks of RAM that are not the guest's RAM file
(firmware, video memory) do not travel, as with every save of the lab.
"""

from __future__ import annotations

import os
import select
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path

from xenqemu.errors import DeviceModelError, HostTimeout, Truncated
from xenqemu.formats.device_state.ram_stream import Pages, RamStream
from xenqemu.formats.stream.libxc import ImageWriter
from xenqemu.formats.stream.libxc_records import PAGE_SIZE as PAGE
from xenqemu.formats.stream.libxc_records import End
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import Moment, Progress
from xenqemu.host.memory.page_writer import PageWriter
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.qemu import background_snapshot
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.lab.private_ram import PrivateRam
from xenqemu.lab.ram_file import RamFile, begun
from xenqemu.lab.ram_layout import extents
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.descriptors import ready
from xenqemu.system.outlived_pipe import OutlivedPipe, outlived_pipe

BLOCK = "ram"
"""QEMU's name of the block that is the RAM file (command_line)."""

MEMINFO = Path("/proc/meminfo")


class MomentMemory:
    """The memory of one guest that runs under `device_model`, which is not connected."""

    def __init__(
        self, device_model: DeviceModel, ram: RamFile | PrivateRam, deadlines: Deadlines
    ) -> None:
        self._device_model = device_model
        self._ram = ram
        self._deadlines = deadlines

    @cached_property
    def bandwidth(self) -> int:
        """How many bytes per second QEMU sends of itself."""
        with self._device_model as device_model:
            return background_snapshot.bandwidth(device_model)

    def obstacle(self) -> str:
        """Return why no snapshot is taken: QEMU reads all RAM, which fills holes of the file."""
        size = self._ram.layout.size
        holes = size - self._had_data.count(1) * PAGE
        free = _free(self._ram.path)
        if holes <= free // 2:
            return ""
        return (
            f"QEMU would fill {holes >> 20} MiB of RAM that the guest never touched, "
            f"and {free >> 20} MiB are free"
        )

    def enable(self) -> None:
        """Have QEMU's next migration be a snapshot."""
        with self._device_model as device_model:
            background_snapshot.enable(device_model)

    def save(self, out: Sink, progress: Progress, begins: Callable[[int], None]) -> Moment:
        """Write the image from QEMU's stream, which is read to its end whatever happens."""
        with outlived_pipe() as pipe:
            begins(pipe.inode)
            with self._device_model as device_model:
                background_snapshot.begin(device_model, pipe)
            try:
                device_state = self._repack(pipe, out, progress)
            except Truncated as error:
                raise DeviceModelError(f"QEMU's snapshot is incomplete: {error}") from error
        with self._device_model as device_model:
            ended = background_snapshot.await_end(device_model, self._deadlines.qemu_save)
        if ended.status != "completed":
            raise DeviceModelError(f"QEMU's snapshot is {ended.status}: {ended.trouble}")
        return Moment(device_state, ended.downtime)

    def _repack(self, pipe: OutlivedPipe, out: Sink, progress: Progress) -> bytes:
        writer = begun(out, self._ram.layout)
        stream = RamStream(Source(_Patient(pipe, self._deadlines.qemu_save)))
        image = _Image(writer, self._ram, self._had_data)
        image.require_block(stream.blocks)
        for pages in stream.pages():
            image.write([each for each in pages if each.block == BLOCK])
            progress(image.done * PAGE, self._ram.layout.size)
        image.require_whole()
        writer.write(End())
        return stream.device_state()

    @cached_property
    def _had_data(self) -> bytearray:
        """Of each page of the file, 1 if it had data before QEMU read it, 0 if it was a hole."""
        size = self._ram.layout.size
        found = bytearray(size // PAGE)
        fd = os.open(self._ram.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, end in extents(fd, 0, size):
                found[start // PAGE : end // PAGE] = b"\1" * ((end - start) // PAGE)
        finally:
            os.close(fd)
        return found


class _Image:
    """The pages of one image, each of which comes once."""

    def __init__(self, writer: ImageWriter, ram: RamFile | PrivateRam, had_data: bytearray) -> None:
        self._writer = PageWriter(writer)
        self._layout = ram.layout
        self._had_data = had_data
        self._seen = bytearray(len(had_data))
        self.done = 0

    def require_block(self, blocks: dict[str, int]) -> None:
        """Raise `DeviceModelError` unless QEMU has the guest's RAM as we have."""
        if blocks.get(BLOCK) != self._layout.size:
            got = f"{blocks.get(BLOCK)} bytes of it, not {self._layout.size}"
            raise DeviceModelError(f"QEMU's snapshot of the guest's RAM has {got}")

    def write(self, pages: Sequence[Pages]) -> None:
        """Write a PAGE_DATA record; pages of zeros are left out where the file had holes."""
        entries = array("Q")
        contents: list[memoryview] = []
        for each in pages:
            self._note(each.offsets)
            if each.data is None:
                zeros = [at for at in each.offsets if self._had_data[at // PAGE]]
                entries.extend([self._layout.pfn(at) | XALLOC for at in zeros])
            else:
                entries.extend([self._layout.pfn(at) for at in each.offsets])
                contents.extend(each.contents())
        self._writer.write(PageData(entries.tobytes()), contents)

    def require_whole(self) -> None:
        """Write what is still kept; raise `DeviceModelError` unless every page has come."""
        self._writer.flush()
        missing = self._seen.count(0)
        if missing:
            raise DeviceModelError(f"QEMU's snapshot lacks {missing} pages of the guest's RAM")

    def _note(self, offsets: array[int]) -> None:
        """Note which pages have come; raise `DeviceModelError` if one has come before."""
        first, count = offsets[0] // PAGE, len(offsets)
        self.done += count
        if offsets == array("Q", range(first * PAGE, (first + count) * PAGE, PAGE)):
            again = self._seen.count(1, first, first + count)
            self._seen[first : first + count] = b"\1" * count
        else:
            numbers = [at // PAGE for at in offsets]
            again = sum(self._seen[number] for number in numbers) + count - len(set(numbers))
            for number in numbers:
                self._seen[number] = 1
        if again:
            raise DeviceModelError(f"QEMU's snapshot has pages twice near {first * PAGE:#x}")


class _Patient:
    """The reader's end of a pipe as an inlet, which waits `seconds` for a writer that is slow."""

    def __init__(self, pipe: OutlivedPipe, seconds: float) -> None:
        self._pipe = pipe.reader
        self._seconds = seconds

    def read(self, size: int, /) -> bytes:
        """Return what comes next."""
        self._wait()
        return self._pipe.read(size) or b""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill some of `buffer` with what comes next."""
        self._wait()
        return self._pipe.readinto(buffer) or 0

    def _wait(self) -> None:
        look = partial(ready, {self._pipe.fileno(): select.POLLIN})
        if not wait_cancellable(look, self._seconds):
            raise HostTimeout(f"QEMU sent nothing of its snapshot for {self._seconds:g} s")


def _free(path: Path) -> int:
    """Return how many bytes of memory are free where a RAM file is."""
    status = os.statvfs(path)
    available = _available()
    return min(status.f_bavail * status.f_frsize, available) if status.f_blocks else available


def _available() -> int:
    """Return how many bytes of memory the machine could give (MemAvailable of proc(5))."""
    for line in MEMINFO.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) << 10
    return 0
