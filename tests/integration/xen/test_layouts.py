"""Save files in either layout, of each guest and each way of saving, under stock xl and under us.

Xen's own verifier takes each.  Where pages are aligned, each lies on a multiple of 4096, and the
padding between them is of a page that the guest does not have.
"""

from __future__ import annotations

import io

import pytest

from tests.integration.xen.bed import Bed
from tests.integration.xen.busy import LIVE, looks_after_itself
from tests.integration.xen.hosts import (
    FILE,
    HELPER,
    ON_417,
    ON_420,
    XENQEMU,
    begin,
    goes_on,
)
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.page_data import PFN_MASK, PageData
from xenqemu.formats.stream.source import Source

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(900)]

RESTORES = ("xl restore", f"{XENQEMU} restore")

TWO_THREADS = """
import os, sys
os.sched_getaffinity = lambda _pid: {0, 1}
from xenqemu.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
"""The command, as on a machine with two processors, which this host does not have."""


class Pages:
    """Where the pages of a save file lie, and which its padding is of."""

    def __init__(self, data: bytes) -> None:
        self.places: list[int] = []
        self.counts: list[int] = []
        self.pfns: set[int] = set()
        self.padding: set[int] = set()
        for _ in Walk(Source(io.BytesIO(data)), self._take):
            pass

    def _take(self, table: PageData, source: Source) -> None:
        if table.data_size:
            self.places.append(source.offset)
        self.counts.append(table.count)
        for run in table.runs():
            self.pfns.update(range(run.pfn, run.pfn + run.pages))
        if table.padding:
            self.padding.add(table.last_pfn & PFN_MASK)
        source.skip(table.data_size, "pages")


def assert_aligned(bed: Bed) -> None:
    found = Pages(bed.get(FILE))
    assert found.places
    assert all(place % 4096 == 0 for place in found.places)
    assert all(count % 512 == 510 for count in found.counts)
    assert len(found.padding) == 1
    assert not found.padding & found.pfns


def assert_as_xl_writes(bed: Bed) -> None:
    found = Pages(bed.get(FILE))
    assert found.places
    assert max(found.counts) <= 1024
    assert not found.padding


def verified(bed: Bed) -> None:
    bed.must(f"verify-stream-v2 -f xl -i {FILE}", timeout=120)
    bed.must(f"{XENQEMU} verify {FILE}", timeout=120)


def goes_both_ways(bed: Bed, name: str) -> None:
    """Save a guest in both layouts; from each file it goes on, under stock xl and under us."""
    begin(bed, name)
    sizes = {}
    for layout, check in (("aligned", assert_aligned), ("xl", assert_as_xl_writes)):
        for restore in RESTORES:
            bed.must(f"{XENQEMU} save --layout {layout} {name} {FILE}", timeout=180)
            before = bed.ticks(name)
            verified(bed)
            check(bed)
            sizes[layout] = int(bed.must(f"stat -c %s {FILE}"))
            bed.must(f"{restore} {FILE}", timeout=180)
            goes_on(bed, name, before)
    assert sizes["aligned"] < sizes["xl"] * 1.01 + (1 << 20)


@ON_417
@pytest.mark.parametrize("name", ["hvm", "firmware", "pvh"])
def test_both_layouts(bed: Bed, name: str) -> None:
    goes_both_ways(bed, name)


@ON_420
@pytest.mark.parametrize("name", ["hvm", "pvh"])
def test_both_layouts_on_the_newest_xen(bed: Bed, name: str) -> None:
    goes_both_ways(bed, name)


@pytest.mark.parametrize("options", ["", "--compact"])
def test_a_live_save_is_aligned(busy: Bed, options: str) -> None:
    for restore in RESTORES:
        busy.must(f"{XENQEMU} save {options} {LIVE} hvm {FILE}", timeout=300)
        verified(busy)
        assert_aligned(busy)
        busy.must(f"{restore} {FILE}", timeout=180)
        looks_after_itself(busy)


@ON_417
def test_a_live_save_as_xl_writes(busy: Bed) -> None:
    busy.must(f"{XENQEMU} save --layout xl {LIVE} hvm {FILE}", timeout=300)
    verified(busy)
    assert_as_xl_writes(busy)
    busy.must(f"xl restore {FILE}", timeout=180)
    looks_after_itself(busy)


@pytest.mark.parametrize("name", ["hvm", "pvh"])
def test_two_threads_write_one_file(bed: Bed, name: str) -> None:
    begin(bed, name)
    program = bed.put("two.py", TWO_THREADS)
    for layout in ("aligned", "xl"):
        bed.must(f"python3 {program} save --layout {layout} {name} {FILE}", timeout=180)
        before = bed.ticks(name)
        verified(bed)
        bed.must(f"xl restore {FILE}", timeout=180)
        goes_on(bed, name, before)


@ON_417
def test_two_threads_write_a_guest_that_runs(busy: Bed) -> None:
    program = busy.put("two.py", TWO_THREADS)
    busy.must(f"python3 {program} save {LIVE} hvm {FILE}", timeout=300)
    verified(busy)
    assert_aligned(busy)
    busy.must(f"xl restore {FILE}", timeout=180)
    looks_after_itself(busy)


@ON_417
def test_a_pv_guest_is_laid_out_by_libxc(bed: Bed) -> None:
    begin(bed, "pv")
    bed.must(f"{XENQEMU} save --layout aligned pv {FILE}", timeout=180)
    before = bed.ticks("pv")
    verified(bed)
    assert not Pages(bed.get(FILE)).padding
    bed.must(f"xl restore {FILE}", timeout=180)
    goes_on(bed, "pv", before)


@ON_417
def test_what_our_helper_writes_for_xl_is_as_xl_writes(bed: Bed) -> None:
    begin(bed, "hvm")
    bed.must(f"{HELPER} xl save hvm {FILE}", timeout=180)
    before = bed.ticks("hvm")
    verified(bed)
    assert_as_xl_writes(bed)
    bed.must(f"xl restore {FILE}", timeout=180)
    goes_on(bed, "hvm", before)
