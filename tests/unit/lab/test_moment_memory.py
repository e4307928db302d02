"""A guest's memory as of one moment: what a device model sends is repacked, or told to be wrong."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Mapping
from typing import Self

import pytest

from tests.golden.save_files import unpacked
from xenqemu.errors import DeviceModelError
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.lab import moment_memory
from xenqemu.lab.moment_memory import MomentMemory
from xenqemu.lab.ram_file import RamFile

PAGE = 4096
SIZE = 1 << 20
DATA = {3: 3, 4: 4, 5: 5, 9: 9, 100: 100}
"""What the pages of the golden stream begin with that are not zeros."""

STREAM = unpacked("background-snapshot.migration")
AT_RAM = STREAM.index(b"\x03ram", 100)


class Qemu:
    """A device model that sends `stream`, and then says how it ended."""

    def __init__(self, stream: bytes = STREAM, **ended: object) -> None:
        self._stream = stream
        self._ended = {"status": "completed", "downtime": 7} | ended
        self._descriptors: dict[str, int] = {}
        self.thread: threading.Thread | None = None
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, fd: int = -1):
        self.asked.append(command)
        if command == "getfd":
            self._descriptors[str(arguments["fdname"])] = os.dup(fd)
        elif command == "migrate":
            writer = self._descriptors.pop(str(arguments["uri"]).removeprefix("fd:"))
            self.thread = threading.Thread(target=self._send, args=(writer,), daemon=True)
            self.thread.start()
        elif command == "query-migrate":
            return self._ended
        elif command == "query-migrate-parameters":
            return {"max-bandwidth": 5}
        return {}

    def _send(self, writer: int) -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(self._stream)

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        if self.thread:
            self.thread.join(5)
            assert not self.thread.is_alive()  # all of it was read


@pytest.fixture
def ram(tmp_path) -> RamFile:
    """A RAM file of which pages 0 to 9 have data, zeros or not."""
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.write(b"x" * 10 * PAGE)
        file.truncate(SIZE)
    return RamFile(path, SIZE, SIZE)


def saved(ram: RamFile, qemu: Qemu, out=None) -> tuple[moment_memory.Moment, list[int]]:
    """Save a moment's memory; return what else it has, and the entries of all pages."""
    pipes: list[int] = []
    out = io.BytesIO() if out is None else out
    try:
        memory = MomentMemory(qemu, ram, Deadlines(qemu_save=5.0))
        moment = memory.save(Sink(out), lambda _done, _total: None, pipes.append)
    finally:
        qemu.close()
    assert len(pipes) == 1
    found: list[int] = []

    def take(table: PageData, source: Source) -> None:
        found.extend(table.entries())
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages if run.has_data else 0):
                assert source.exact(PAGE, "page") == bytes([DATA[pfn]]) * PAGE

    for _record in libxc.read(Source.of(out.getvalue()), take):
        pass
    return moment, found


def test_pages_and_devices_of_one_moment(ram):
    moment, entries = saved(ram, Qemu())
    assert moment.downtime == 0.007
    assert len(device_stream.read(moment.device_state).sections) == 29
    # Of the pages of zeros, those are told of that were no holes of the file.
    zeros = {pfn | XALLOC for pfn in range(10) if pfn not in DATA}
    assert sorted(entries) == sorted({*DATA, *zeros})


def test_what_it_changes_and_gives_back(ram):
    qemu = Qemu()
    memory = MomentMemory(qemu, ram, Deadlines())
    assert memory.bandwidth == 5
    memory.enable()
    assert qemu.asked[1:] == ["migrate-set-capabilities", "migrate-set-parameters"]


def test_no_room_for_what_it_would_touch(ram, monkeypatch):
    memory = MomentMemory(Qemu(), ram, Deadlines())
    assert memory.obstacle() == ""
    (meminfo := ram.path.with_name("meminfo")).write_text("MemTotal: 9 kB\nMemAvailable: 1024 kB\n")
    monkeypatch.setattr(moment_memory, "MEMINFO", meminfo)
    assert memory.obstacle() == (
        "QEMU would fill 0 MiB of RAM that the guest never touched, and 1 MiB are free"
    )


TWICE = STREAM[: AT_RAM + 5] + STREAM[AT_RAM - 8 : AT_RAM + 5] + STREAM[AT_RAM + 5 :]
"""The first page of the guest's RAM comes again."""

WRONG = [
    ("it ends early", Qemu(STREAM[:30000]), "incomplete: RAM stream at offset"),
    ("it fails at the end", Qemu(status="failed", **{"error-desc": "no more"}), "failed: no more"),
    ("a page comes twice", Qemu(TWICE), "has pages twice near 0x0"),
    ("it says nothing", Qemu(b""), "incomplete"),
]


@pytest.mark.parametrize(("qemu", "words"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG])
def test_what_is_wrong_is_told(ram, qemu, words):
    with pytest.raises(DeviceModelError, match=words):
        saved(ram, qemu)


def test_ram_of_another_size(tmp_path):
    path = tmp_path / "small"
    path.write_bytes(bytes(SIZE // 2))
    with pytest.raises(DeviceModelError, match=f"has {SIZE} bytes of it, not {SIZE // 2}"):
        saved(RamFile(path, SIZE // 2, SIZE // 2), Qemu())


def test_all_is_read_though_nothing_can_be_written(ram):
    """QEMU's guest would wait for ever else."""
    with (
        open("/dev/full", "wb", buffering=0) as full,
        pytest.raises(OSError, match="No space left"),
    ):
        saved(ram, Qemu(STREAM + bytes(1 << 20)), full)
