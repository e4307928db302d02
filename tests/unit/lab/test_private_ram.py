"""The memory of a clone: what it shares, and what its process has instead."""

from __future__ import annotations

import io
import mmap
import os
from pathlib import Path

import pytest

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.lab.private_ram import PrivateRam
from xenqemu.lab.ram_layout import ABOVE

PAGE = 4096
PAGES = 3000
BELOW = 2000


def nothing(_done, _total):
    """Show no progress."""


@pytest.fixture
def shared(tmp_path) -> Path:
    """A RAM file with data in pages 1 and 2, and in the last one; all else is a hole."""
    path = tmp_path / "ram"
    with path.open("wb") as file:
        file.truncate(PAGES * PAGE)
        for page in (1, 2, PAGES - 1):
            file.seek(page * PAGE)
            file.write(bytes([page % 251]) * PAGE)
    return path


@pytest.fixture
def mapped(shared):
    """The file as our own process maps it, as QEMU does a clone's."""
    with shared.open("r+b") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as made:
        yield made


def saved(ram: PrivateRam) -> dict[int, bytes]:
    """Return the pages of its image by their pfns."""
    out, found = io.BytesIO(), {}
    ram.save(Sink(out), nothing)

    def take(table: PageData, source: Source) -> None:
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages):
                if run.has_data or run.type == XALLOC:
                    found[pfn] = source.exact(PAGE, "page") if run.has_data else bytes(PAGE)

    for _record in libxc.read(Source.of(out.getvalue()), take):
        pass
    return found


def test_what_was_written_takes_the_place_of_what_is_shared(shared, mapped):
    ram = PrivateRam(shared, PAGES * PAGE, BELOW * PAGE, os.getpid())
    last = ABOVE // PAGE + PAGES - BELOW - 1
    assert saved(ram) == {pfn: bytes([number % 251]) * PAGE
                          for pfn, number in ((1, 1), (2, 2), (last, PAGES - 1))}  # fmt: skip
    mapped[2 * PAGE : 3 * PAGE] = b"x" * PAGE
    mapped[7 * PAGE : 8 * PAGE] = b"y" * PAGE
    mapped[1 * PAGE : 2 * PAGE] = bytes(PAGE)
    mapped[BELOW * PAGE : (BELOW + 1) * PAGE] = b"z" * PAGE
    found = saved(ram)
    assert found[1] == bytes(PAGE)
    assert found[2] == b"x" * PAGE
    assert found[7] == b"y" * PAGE
    assert found[ABOVE // PAGE] == b"z" * PAGE
    assert len(found) == 5
    assert shared.read_bytes()[2 * PAGE : 3 * PAGE] == b"\2" * PAGE  # nothing of it is in the file
    assert ram.counted_space(nothing) <= ram.space()


def test_it_has_no_iterations(shared, mapped):
    ram = PrivateRam(shared, PAGES * PAGE, BELOW * PAGE, os.getpid())
    assert not ram.can_log_dirty()


def test_a_process_that_has_not_mapped_it(shared):
    ram = PrivateRam(shared, PAGES * PAGE, BELOW * PAGE, os.getpid())
    with pytest.raises(HypervisorError, match="QEMU has not mapped"):
        ram.space()


def test_a_process_that_is_gone(shared):
    ram = PrivateRam(shared, PAGES * PAGE, BELOW * PAGE, 1 << 22)
    with pytest.raises(HypervisorError, match="the memory of a clone is its QEMU's own"):
        ram.space()
