"""The image of a running HVM guest: replayed, it is the memory as it was when it was suspended."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.doubles.xen.fake_xen import PAGE, XTAB, FakeLibraries, Guest, fake_xen
from xenqemu.errors import DeviceModelError, HostError, HypervisorError, NotConverged
from xenqemu.formats.stream import libxc
from xenqemu.formats.stream.page_data import BROKEN, PFN_MASK, XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import Live
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.hvm_memory import HvmMemory

DOMID = 7
ZERO = bytes(PAGE)
FULL = bytes(range(256)) * 16
ALL_ITERATIONS = PrecopyOptions(threshold=-1)
"""Five iterations, even if nothing changes any more."""


def nothing(*_told: object) -> None:
    """Hear nothing, do nothing."""


def image(
    xen: Xen,
    precopy: PrecopyOptions = ALL_ITERATIONS,
    *,
    suspend: Callable[[], None] = nothing,
    report: Callable[[Iteration], None] = nothing,
    progress: Callable[[int, int], None] = nothing,
    switch: Callable[[bool], None] = nothing,
    elide_zeros: bool = True,
) -> bytes:
    """Return a live image of the guest, which suspends after `suspend`."""

    def suspended() -> None:
        suspend()
        domain = libraries_of(xen).guests[DOMID]
        domain.shut_down(2)

    file = io.BytesIO()
    memory = HvmMemory(xen, DOMID, switch, elide_zeros=elide_zeros)
    memory.save_live(Sink(file), progress, Live(precopy, suspended, report))
    return file.getvalue()


def libraries_of(xen: Xen) -> FakeLibraries:
    assert isinstance(xen.libraries, FakeLibraries)
    return xen.libraries


def replayed(data: bytes) -> dict[int, bytes]:
    """Return the pages that Xen's own reader would make of an image."""
    pages: dict[int, bytes] = {}

    def take(table: PageData, source: Source) -> None:
        for entry in table.entries():
            pfn, kind = entry & PFN_MASK, entry & ~PFN_MASK
            assert kind in (0, XALLOC, BROKEN)
            if kind == 0:
                pages[pfn] = source.exact(PAGE, "page")
            elif kind == XALLOC:
                pages.setdefault(pfn, ZERO)

    for _ in libxc.read(Source.of(data), take):
        pass
    return pages


def records(data: bytes) -> list[list[int]]:
    """Return the entries of each PAGE_DATA record."""
    found = libxc.read(Source.of(data))
    return [list(r.value.entries()) for r in found if isinstance(r.value, PageData)]


@pytest.fixture
def guest(libraries: FakeLibraries) -> Guest:
    """A running guest with a few pages, one of zeros."""
    pages = dict.fromkeys(range(10), FULL) | {3: ZERO, 0xFEFFC: FULL}
    libraries.guests[DOMID] = Guest(pages=pages, params={1: 0xFEFFC})
    return libraries.guests[DOMID]


def test_a_whole_save(xen: Xen, guest: Guest) -> None:
    told: list[bool] = []
    iterations: list[Iteration] = []
    seen: list[tuple[int, int]] = []

    def report(done: Iteration) -> None:
        iterations.append(done)
        if done.number == 1:
            guest.write(4, b"\1" * PAGE)
            guest.write(5, ZERO)

    data = image(
        xen,
        PrecopyOptions(iterations=3, threshold=-1),
        suspend=lambda: guest.write(6, b"\2" * PAGE),
        report=report,
        progress=lambda *told: seen.append(told),
        switch=told.append,
    )
    first = [[0, 1, 2, XALLOC | 3, 4, 5, 6, 7, 8, 9], [0xFEFFC]]
    assert records(data) == [*first, [4, 5], [6]]
    assert replayed(data) == guest.pages
    assert [(r.number, r.pages, r.changed) for r in iterations] == [
        (1, 11, 0),
        (2, 0, 2),
        (3, 2, 0),
        (4, 1, 0),
    ]
    assert seen[-1] == (PAGE, PAGE)
    assert told == [True, False]
    assert guest.logged is None
    assert [record.name for record in libxc.read(Source.of(data))] == [
        *("image header", "domain header", "X86_CPUID_POLICY", "X86_MSR_POLICY"),
        *("STATIC_DATA_END", *["PAGE_DATA"] * 4),
        *("X86_TSC_INFO", "HVM_CONTEXT", "HVM_PARAMS", "END"),
    ]


def test_what_changed_before_the_freeze_and_was_not_written_yet(xen: Xen, guest: Guest) -> None:
    def progress(done: int, total: int) -> None:
        if done == total:
            guest.write(8, b"\3" * PAGE)

    data = image(xen, PrecopyOptions(iterations=1), progress=progress)
    assert records(data)[2:] == [[8]]
    assert replayed(data) == guest.pages


def test_what_xen_has_mapped_itself_is_written_at_the_end(xen: Xen, guest: Guest) -> None:
    guest.mapped = {2}
    data = image(xen, suspend=lambda: guest.pages.update({2: b"\4" * PAGE}))
    assert records(data)[2:] == [[2]]
    assert replayed(data) == guest.pages


def test_zeros_that_are_to_stay_data(xen: Xen, guest: Guest) -> None:
    assert records(image(xen, elide_zeros=False))[0][3] == 3


def test_more_changes_than_a_record_holds(xen: Xen, guest: Guest) -> None:
    guest.pages.update(dict.fromkeys(range(5000), FULL))
    changed = sorted(random.Random(1).sample(range(5000), 2500))

    def suspend() -> None:
        for pfn in changed:
            guest.write(pfn, b"\5" * PAGE)

    data = image(xen, suspend=suspend)
    assert records(data)[-3:] == [changed[:1024], changed[1024:2048], changed[2048:]]
    assert replayed(data) == guest.pages


def test_pages_that_go_and_come_while_the_guest_runs(xen: Xen, guest: Guest) -> None:
    """Xen does not log a page that comes until the next query."""

    def balloon(done: Iteration) -> None:
        if done.number == 1:
            del guest.pages[1]
        if done.number == 2:
            guest.pages[700] = b"\6" * PAGE
            guest.pages[0xFF000] = b"\7" * PAGE  # above what was the guest's last page

    iterations: list[Iteration] = []
    data = image(xen, report=lambda done: (balloon(done), iterations.append(done)))
    made = replayed(data)
    assert {pfn: made[pfn] for pfn in guest.pages} == guest.pages
    assert set(made) - set(guest.pages) == {1}
    assert [r.changed for r in iterations] == [0, 10, 12, 0, 0, 0]


def test_a_page_that_comes_right_before_the_freeze(xen: Xen, guest: Guest) -> None:
    data = image(xen, suspend=lambda: guest.pages.update({700: b"\6" * PAGE}))
    assert replayed(data) == guest.pages


def test_a_page_that_goes_between_the_question_and_the_mapping(
    libraries: FakeLibraries, xen: Xen, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = libraries.xc_get_pfn_type_batch

    def types(*arguments: int) -> int:
        answer = real(*arguments)
        for pfn in (2, 5):
            guest.pages.pop(pfn, None)
        return answer

    monkeypatch.setattr(libraries, "xc_get_pfn_type_batch", types)
    data = image(xen)
    assert records(data)[0] == [0, 1, XALLOC | 3, 4, 6, 7, 8, 9]
    assert replayed(data) == guest.pages
    assert libraries.mappings == {}


def test_but_one_that_a_frozen_guest_lacks_is_an_error(xen: Xen, guest: Guest) -> None:
    def suspend() -> None:
        guest.write(4, FULL)
        guest.unmappable = {4}

    with pytest.raises(HypervisorError, match="pfn 0x4 is populated but not mappable"):
        image(xen, suspend=suspend)
    assert guest.logged is None


def test_a_guest_all_of_whose_pages_of_a_batch_go(
    xen: Xen, guest: Guest, libraries: FakeLibraries
) -> None:
    guest.unmappable = set(guest.pages)
    data = image(xen, suspend=guest.unmappable.clear)
    assert records(data) == []


def test_types_that_are_kept_and_left_out(xen: Xen, guest: Guest) -> None:
    guest.types = {4: 0xD << 28, 5: XTAB, 6: 0xE << 28}
    low, _high = records(image(xen))
    assert low == [0, 1, 2, XALLOC | 3, BROKEN | 4, XALLOC | 6, 7, 8, 9]


def test_a_guest_that_is_not_frozen_after_all(
    libraries: FakeLibraries, xen: Xen, guest: Guest
) -> None:
    memory = HvmMemory(xen, DOMID, nothing)
    with pytest.raises(HypervisorError, match="domain 7 is running, not suspended"):
        memory.save_live(Sink(io.BytesIO()), nothing, Live(PrecopyOptions(), nothing, nothing))
    assert guest.logged is None


def test_paged_out_pages_are_refused(xen: Xen, guest: Guest) -> None:
    guest.paged = 3
    with pytest.raises(HypervisorError, match="3 pages of domain 7 are paged out"):
        image(xen)


def test_pages_that_are_paged_out_meanwhile(xen: Xen, guest: Guest) -> None:
    with pytest.raises(HypervisorError, match="3 pages of domain 7 are paged out"):
        image(xen, suspend=lambda: setattr(guest, "paged", 3))


def test_a_guest_that_never_settles_is_left_alone(xen: Xen, guest: Guest) -> None:
    told: list[bool] = []

    def change(*_told: object) -> None:
        for pfn in range(10):
            guest.write(pfn, FULL)

    policy = PrecopyOptions(iterations=3, threshold=5, give_up=True)
    with pytest.raises(NotConverged):
        image(xen, policy, progress=change, suspend=pytest.fail, switch=told.append)
    assert (told, guest.logged) == ([True, False], None)


def test_a_log_that_was_left_on(xen: Xen, guest: Guest) -> None:
    guest.logged = {1, 2, 3}
    assert replayed(image(xen)) == guest.pages
    assert guest.logged is None


def failing_at(number: int | None) -> tuple[list[str], Guest, list[bool]]:
    """Save a small guest while call `number` fails; return all calls, the guest, the switches."""
    libraries, xen = fake_xen()
    guest = libraries.guests[DOMID] = Guest(pages={0: FULL, 1: ZERO, 2: FULL}, params={1: 2})
    libraries.calls.clear()
    libraries.failing = number
    told: list[bool] = []
    change = partial(guest.write, 0, b"\1" * PAGE)
    with contextlib.suppress(*([] if number is None else [HostError])):
        image(xen, PrecopyOptions(iterations=2, threshold=-1), suspend=change, switch=told.append)
    assert libraries.mappings == {}
    libraries.close()
    return libraries.calls, guest, told


CANNOT_FAIL = {
    *("xenforeignmemory_unmap", "xenforeignmemory_close", "xc__hypercall_buffer_free_pages"),
    *("xc_cpu_policy_destroy", "xc_domain_getvnuma"),
}
CALLS, _, _ = failing_at(None)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, id=f"{number}-{name}")
        for number, name in enumerate(CALLS)
        if name not in CANNOT_FAIL
    ],
)
def test_every_call_that_fails_leaves_no_log_on(number: int) -> None:
    """But the last switch, whose own failure is told."""
    _, guest, told = failing_at(number)
    assert told in ([], [True, False])
    off = len(CALLS) - 1 - CALLS[::-1].index("xc_logdirty_control")
    assert (guest.logged is None) == (number != off)


def test_a_device_model_that_refuses(xen: Xen, guest: Guest) -> None:
    def refuse(on: bool) -> None:
        raise DeviceModelError(f"no {on}")

    with pytest.raises(DeviceModelError, match="no True") as caught:
        image(xen, switch=refuse)
    assert caught.value.__notes__ == ["the dirty log may still be on: no False"]
    assert guest.logged is None


CHANGES = st.sampled_from(["wzg", "wzc"]).flatmap(
    lambda kinds: st.lists(
        st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 2100)), max_size=4), max_size=25
    )
)
"""Moments at which pages are written, become zeros, and either go or come."""


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(0, 2100), min_size=1),
    CHANGES,
    st.integers(1, 5),
    st.integers(),
)
def test_whatever_changes_when_ever_the_image_ends_as_the_memory(
    first: set[int], moments: list[list[tuple[str, int]]], iterations: int, seed: int
) -> None:
    libraries, xen = fake_xen()
    some = random.Random(seed)
    guest = libraries.guests[DOMID] = Guest(
        pages={pfn: some.choice([ZERO, some.randbytes(8) * 512]) for pfn in first}
    )

    def moment(*_told: Any) -> None:
        for kind, pfn in moments.pop(0) if moments else ():
            if kind in "wz" and pfn in guest.pages:
                guest.write(pfn, ZERO if kind == "z" else some.randbytes(8) * 512)
            elif kind == "g" and len(guest.pages) > 1:
                guest.pages.pop(pfn, None)
            elif kind == "c" and pfn not in guest.pages:
                guest.pages[pfn] = some.randbytes(8) * 512  # unnoted, as Xen has it

    def suspend() -> None:
        moment()
        moments.clear()

    policy = PrecopyOptions(iterations=iterations, threshold=-1)
    data = image(xen, policy, suspend=suspend, report=moment, progress=moment)
    made = replayed(data)
    assert {pfn: made.get(pfn) for pfn in guest.pages} == guest.pages
    assert libraries.mappings == {}
    libraries.close()
