"""The image of an HVM guest, read back with the reader of the format."""

from __future__ import annotations

import io
import os
import random
import threading
from errno import EIO, ENOMEM
from pathlib import Path

import pytest
from xxhash import xxh3_128

from tests.doubles.xen import fake_xen as fake_xen_module
from tests.doubles.xen.fake_xen import LEAVES, MSRS, PAGE, FakeLibraries, Guest, fake_xen
from xenqemu.errors import HypervisorError
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.framing import Record
from xenqemu.formats.stream.libxc_records import (
    LEAF,
    HvmContext,
    HvmParams,
    X86CpuidPolicy,
    X86MsrPolicy,
    X86TscInfo,
)
from xenqemu.formats.stream.page_data import BROKEN, PFN_MASK, XALLOC, XTAB, PageData
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.value import Value
from xenqemu.host.xen.control import ACPI_S_STATE
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.hvm_memory import HvmMemory

DOMID = 7
FULL = bytes(range(256)) * 16


def unswitched(on: bool) -> None:
    raise AssertionError(f"the device log of a suspended guest was switched: {on}")


def suspended(**fields: object) -> Guest:
    guest = Guest(**fields)  # type: ignore[arg-type]
    guest.shut_down(2)
    return guest


def image(xen: Xen, *, elide_zeros: bool = True) -> tuple[bytes, list[tuple[int, int]]]:
    progress: list[tuple[int, int]] = []
    file = io.BytesIO()
    HvmMemory(xen, DOMID, unswitched, elide_zeros=elide_zeros).save(
        Sink(file), lambda done, total: progress.append((done, total))
    )
    return file.getvalue(), progress


def read(data: bytes) -> tuple[list[Record], dict[int, bytes | str]]:
    """Return the records, and what the image says of each page."""
    pages: dict[int, bytes | str] = {}

    def take(table: PageData, source: Source) -> None:
        for entry in table.entries():
            pfn, kind = entry & PFN_MASK, entry & ~PFN_MASK
            assert pfn not in pages
            if kind == 0:
                pages[pfn] = source.exact(PAGE, "page")
            else:
                pages[pfn] = {XALLOC: "zero", BROKEN: "broken"}[kind]

    source = Source.of(data)
    records = list(libxc.read(source, take))
    assert source.at_end()
    return records, pages


def aligned_image(xen: Xen, processors: int) -> tuple[bytes, Pieces]:
    """Return an image whose pages are aligned, and the digests of it, by so many threads."""
    memory, pieces = HvmMemory(xen, DOMID, unswitched), Pieces()
    with (
        pytest.MonkeyPatch.context() as patch,
        open(os.memfd_create("image"), "w+b", buffering=0) as file,
    ):
        patch.setattr(os, "sched_getaffinity", lambda _pid: set(range(processors)))
        sink = Sink(file, pieces, align_pages=True)
        sink.write(bytes(-memory.size_before_pages() % PAGE))
        memory.save(sink, lambda _done, _total: None)
        file.seek(0)
        return file.read(), pieces


@pytest.mark.parametrize("processors", [1, 2])
def test_pages_are_aligned_whoever_writes_them(
    libraries: FakeLibraries, xen: Xen, processors: int
) -> None:
    chance = random.Random(7)
    pages = {pfn: chance.choice([FULL, bytes(PAGE)]) for pfn in range(12000) if pfn % 5000 < 3000}
    libraries.guests[DOMID] = suspended(pages=pages, params={1: 0})
    data, pieces = aligned_image(xen, processors)
    start = -HvmMemory(xen, DOMID, unswitched).size_before_pages() % PAGE
    found: dict[int, bytes] = {}
    holes: set[int] = set()

    def take(table: PageData, source: Source) -> None:
        assert source.offset % PAGE == 0
        assert table.count % 512 == 510
        for run in table.runs():
            for pfn in range(run.pfn, run.pfn + run.pages):
                assert pfn not in found
                found[pfn] = source.exact(PAGE, "page") if run.has_data else bytes(PAGE)
        holes.update(list(table.entries())[table.count - table.padding :])

    for _ in libxc.read(Source(io.BytesIO(data[start:]), start), take):
        pass
    assert found == pages
    assert holes == {XTAB | max(pages) + 1}
    assert libraries.mappings == libraries.memories == {}
    assert [piece.digest for piece in pieces.in_order()] == [
        xxh3_128(data[piece.start : piece.end]).digest() for piece in pieces.in_order()
    ]
    assert sum(piece.end - piece.start for piece in pieces.in_order()) == len(data)


def test_a_helper_that_fails_ends_the_save(libraries: FakeLibraries, xen: Xen) -> None:
    before = threading.active_count()
    libraries.guests[DOMID] = suspended(
        pages=dict.fromkeys(range(20000), FULL), unmappable={1500, 11500}
    )
    with pytest.raises(HypervisorError, match="is populated but not mappable"):
        aligned_image(xen, 2)
    assert libraries.mappings == libraries.memories == {}
    assert threading.active_count() == before


def value(records: list[Record], name: str) -> Value:
    (found,) = (record.value for record in records if record.name == name)
    assert isinstance(found, Value)
    return found


def test_a_whole_guest(libraries: FakeLibraries, xen: Xen) -> None:
    pages = {0: FULL, 1: bytes(PAGE), 2: b"\1" + bytes(PAGE - 1), 1023: FULL, 1024: FULL}
    libraries.guests[DOMID] = suspended(
        pages=pages | {0xFEFFC: bytes(PAGE - 1) + b"\1"},
        params={1: 0xFEFFC, 17: 0, 12: 0xFF000, 4: 1, 0: 99},
    )
    data, progress = image(xen)
    records, written = read(data)
    assert [record.name for record in records] == [
        *("image header", "domain header", "X86_CPUID_POLICY", "X86_MSR_POLICY"),
        *("STATIC_DATA_END", "PAGE_DATA", "PAGE_DATA", "PAGE_DATA"),
        *("X86_TSC_INFO", "HVM_CONTEXT", "HVM_PARAMS", "END"),
    ]
    assert written == pages | {1: "zero", 0xFEFFC: bytes(PAGE - 1) + b"\1"}
    assert value(records, "image header") == libxc.ImageHeader(3)
    assert value(records, "domain header") == libxc.DomainHeader(2, 4, 17)
    leaves = value(records, "X86_CPUID_POLICY")
    assert isinstance(leaves, X86CpuidPolicy)
    assert b"".join(LEAF.pack(*leaf) for leaf in leaves.leaves) == LEAVES
    msrs = value(records, "X86_MSR_POLICY")
    assert isinstance(msrs, X86MsrPolicy)
    assert msrs.pack() == MSRS
    assert value(records, "X86_TSC_INFO") == X86TscInfo(1, 2_400_000, 5_000_000_000, 3)
    assert value(records, "HVM_CONTEXT") == HvmContext(b"context")
    assert value(records, "HVM_PARAMS") == HvmParams({1: 0xFEFFC, 12: 0xFF000})
    total = 6 * PAGE
    assert progress == [(4 * PAGE, total), (5 * PAGE, total), (total, total), (total, total)]
    assert libraries.mappings == {}


def test_zeros_can_be_written_out(libraries: FakeLibraries, xen: Xen) -> None:
    pages = {0: bytes(PAGE), 1: FULL, 2: bytes(PAGE)}
    libraries.guests[DOMID] = suspended(pages=pages)
    assert read(image(xen, elide_zeros=False)[0])[1] == pages


def test_what_is_empty_has_no_record(
    libraries: FakeLibraries, xen: Xen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_xen_module, "LEAVES", b"")
    monkeypatch.setattr(fake_xen_module, "MSRS", b"")
    libraries.guests[DOMID] = suspended(pages={0: FULL})
    assert [record.name for record in read(image(xen)[0])[0]] == [
        *("image header", "domain header", "STATIC_DATA_END", "PAGE_DATA"),
        *("X86_TSC_INFO", "HVM_CONTEXT", "END"),
    ]


def test_broken_and_allocated_pages_are_said_and_not_mapped(
    libraries: FakeLibraries, xen: Xen
) -> None:
    libraries.guests[DOMID] = suspended(
        pages={0: FULL, 3: FULL},
        types={1: 0xD << 28, 2: 0xE << 28, 2048: 0xD << 28},
        unmappable={1, 2, 2048},
    )
    assert read(image(xen)[0])[1] == {
        0: FULL,
        1: "broken",
        2: "zero",
        3: FULL,
        2048: "broken",
    }


def test_any_layout_of_pages(libraries: FakeLibraries, xen: Xen) -> None:
    chance = random.Random(5)
    pages = {
        pfn: chance.choice([FULL, bytes(PAGE), chance.randbytes(PAGE)])
        for pfn in range(3000)
        if chance.random() < 0.3 or 1100 < pfn < 2200
    }
    libraries.guests[DOMID] = suspended(pages=pages)
    wanted = {pfn: "zero" if page == bytes(PAGE) else page for pfn, page in pages.items()}
    assert read(image(xen)[0])[1] == wanted


@pytest.mark.parametrize("last", [1023, 1024, 4095, 4096, 4097])
def test_the_last_page_is_found_wherever_it_is(
    libraries: FakeLibraries, xen: Xen, last: int
) -> None:
    libraries.guests[DOMID] = suspended(pages={last: FULL})
    assert read(image(xen)[0])[1] == {last: FULL}


@pytest.mark.parametrize(
    ("version", "policies", "params"),
    [((4, 13), [], {4: 1, 12: 5}), ((4, 14), ["X86_CPUID_POLICY", "X86_MSR_POLICY"], {12: 5})],
)
def test_older_xens(version: tuple[int, int], policies: list[str], params: dict[int, int]) -> None:
    libraries, xen = fake_xen(version)
    libraries.guests[DOMID] = suspended(pages={0: FULL}, params={4: 1, 12: 5})
    records, pages = read(image(xen)[0])
    static = [*policies, "STATIC_DATA_END"] if policies else []
    assert [record.name for record in records] == [
        *("image header", "domain header", *static),
        *("PAGE_DATA", "X86_TSC_INFO", "HVM_CONTEXT", "HVM_PARAMS", "END"),
    ]
    assert value(records, "image header") == libxc.ImageHeader(2 if version == (4, 13) else 3)
    assert value(records, "HVM_PARAMS") == HvmParams(params)
    assert pages == {0: FULL}
    libraries.close()


# Room.


@pytest.mark.parametrize(
    "pfns",
    [range(3000), range(0, 300 * 1024, 1024), [], [5], [0, 1, 2, 1023, 1024, 5000]],
    ids=["close together", "far from each other", "none", "one", "some"],
)
def test_the_image_has_space(libraries: FakeLibraries, xen: Xen, pfns: range | list[int]) -> None:
    guest = suspended(
        pages=dict.fromkeys(pfns, FULL),
        params=dict.fromkeys(set(range(20)) - {ACPI_S_STATE}, 1),
        context=bytes(99999),
    )
    libraries.guests[DOMID] = guest
    space = HvmMemory(xen, DOMID, unswitched).space()
    assert len(image(xen)[0]) <= space < len(image(xen)[0]) + 80_000 + 20 * len(pfns)


def test_space_is_told_of_a_running_guest_too(libraries: FakeLibraries, xen: Xen) -> None:
    libraries.guests[DOMID] = Guest(pages={0: FULL})
    one = HvmMemory(xen, DOMID, unswitched).space()
    libraries.guests[DOMID].pages[1] = FULL
    assert HvmMemory(xen, DOMID, unswitched).space() - one > PAGE
    libraries.guests.clear()
    with pytest.raises(HypervisorError, match="there is no domain 7"):
        HvmMemory(xen, DOMID, unswitched).space()


@pytest.mark.parametrize("zeros", [0, 1, 1500, 3000])
def test_pages_of_zeros_take_little_space_once_they_are_counted(
    libraries: FakeLibraries, xen: Xen, zeros: int
) -> None:
    pages = {pfn: bytes(PAGE) if pfn < zeros else FULL for pfn in range(3000)}
    libraries.guests[DOMID] = suspended(pages=pages, context=bytes(99999))
    memory, seen = HvmMemory(xen, DOMID, unswitched), []
    counted = memory.counted_space(lambda done, total: seen.append((done, total)))
    assert len(image(xen)[0]) <= counted <= memory.space() - zeros * PAGE
    assert seen[-1] == (3000 * PAGE, 3000 * PAGE)
    assert seen == sorted(seen)


def test_a_running_guest_is_counted_and_all_of_it_where_zeros_are_written(
    libraries: FakeLibraries, xen: Xen
) -> None:
    libraries.guests[DOMID] = Guest(pages=dict.fromkeys(range(100), bytes(PAGE)))
    sparse = HvmMemory(xen, DOMID, unswitched).counted_space(lambda *_: None)
    whole = HvmMemory(xen, DOMID, unswitched, elide_zeros=False)
    assert sparse + 100 * PAGE == whole.counted_space(lambda *_: None) == whole.space()


# Refusals.


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        (None, "there is no domain 7"),
        (Guest(), "domain 7 is running, not suspended"),
        (Guest(flags=1 << 2 | 3 << 16), r"reason 3 \(crash\), not suspended"),
        (suspended(paged=4), "4 pages of domain 7 are paged out"),
    ],
)
def test_only_suspended_guests_are_written(
    libraries: FakeLibraries, xen: Xen, guest: Guest | None, why: str
) -> None:
    if guest is not None:
        libraries.guests[DOMID] = guest
    file = io.BytesIO()
    with pytest.raises(HypervisorError, match=why):
        HvmMemory(xen, DOMID, unswitched).save(Sink(file), lambda _done, _total: None)
    assert file.getvalue() == b""


def test_a_page_that_cannot_be_mapped_is_an_error(libraries: FakeLibraries, xen: Xen) -> None:
    libraries.guests[DOMID] = suspended(
        pages=dict.fromkeys(range(2000), FULL), unmappable={1500, 1501}
    )
    with pytest.raises(HypervisorError, match="pfn 0x5dc is populated but not mappable: No such"):
        image(xen)
    assert libraries.mappings == {}


@pytest.mark.parametrize(
    "name",
    [
        *("xc_cpu_policy_get_size", "xc_cpu_policy_get_domain", "xc_cpu_policy_serialise"),
        *("xc_domain_nr_gpfns", "xc_get_pfn_type_batch", "xc_domain_get_tsc_info"),
        *("xc_domain_hvm_getcontext", "xc_hvm_param_get"),
    ],
)
def test_what_xen_refuses_is_named(libraries: FakeLibraries, xen: Xen, name: str) -> None:
    libraries.guests[DOMID] = suspended(pages={0: FULL})
    libraries.refusals[name] = EIO
    with pytest.raises(HypervisorError, match=rf"{name}\(.*\): Input/output error"):
        image(xen)


def test_no_memory_for_the_cpu_policy(libraries: FakeLibraries, xen: Xen) -> None:
    libraries.guests[DOMID] = suspended(pages={0: FULL})
    libraries.refusals["xc_cpu_policy_init"] = ENOMEM
    with pytest.raises(HypervisorError, match="^xc_cpu_policy_init: no memory$"):
        image(xen)


def test_a_mapping_that_fails_as_a_whole(libraries: FakeLibraries, xen: Xen) -> None:
    libraries.guests[DOMID] = suspended(pages={0: FULL})
    libraries.refusals["xenforeignmemory_map"] = EIO
    with pytest.raises(HypervisorError, match="mapping 1 pages of domain 7: Input/output error"):
        image(xen)


def test_types_that_no_hvm_guest_has(libraries: FakeLibraries, xen: Xen) -> None:
    libraries.guests[DOMID] = suspended(pages={1: FULL}, types={1025: 0x4 << 28})
    with pytest.raises(HypervisorError, match="pfn 0x401 has the type 0x4, which no HVM page has"):
        image(xen)


def test_sizes_beyond_belief(
    libraries: FakeLibraries, xen: Xen, monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries.guests[DOMID] = suspended(pages={0: FULL})
    monkeypatch.setattr(HvmContext, "LIMIT", 10)
    with pytest.raises(HypervisorError, match="reports 15 bytes of HVM context, more than 10"):
        image(xen)
    monkeypatch.setattr("xenqemu.host.xen.memory.guest_state.POLICY_MAX", 6)
    with pytest.raises(HypervisorError, match="reports 7 entries of cpu policy, more than 6"):
        image(xen)


def test_a_full_disk_leaves_nothing_mapped(
    libraries: FakeLibraries, xen: Xen, tmp_path: Path
) -> None:
    libraries.guests[DOMID] = suspended(pages=dict.fromkeys(range(2000), FULL))
    with (
        Path("/dev/full").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No space"),
    ):
        HvmMemory(xen, DOMID, unswitched).save(Sink(file), lambda _done, _total: None)
    assert libraries.mappings == {}


def test_images_are_not_loaded_here(xen: Xen) -> None:
    with pytest.raises(HypervisorError, match="libxl restores save files"):
        HvmMemory(xen, DOMID, unswitched).load(Source.of(b""), lambda _done, _total: None)
