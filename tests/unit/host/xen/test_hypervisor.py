"""XenHypervisor's acts on a fake Xen and a real xenstored."""

from __future__ import annotations

import time
from errno import EBUSY, EIO
from pathlib import Path

import pytest

from tests.doubles.xen.fake_xen import FakeLibraries, Guest
from tests.doubles.xen.guest_parts import DOMID, Host, ends, playing
from xenqemu.errors import HypervisorError, StoreError
from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.host.xen.domain_info import HVM
from xenqemu.host.xen.memory.hvm_memory import HvmMemory
from xenqemu.host.xenstore.store import Store

# What Xen says.


def test_only_the_domain_that_is_asked_for_is_told_of(
    host: Host, guest: Guest, libraries: FakeLibraries
) -> None:
    hypervisor = host.hypervisor()
    guest.pages = {0: b"", 1: b""}
    wanted = DomainInfo(DOMID, "1c45a064-edb5-48a8-a742-b09c9432aa1c", RunState.RUNNING, 8192, 2)
    assert hypervisor.info(DOMID) == wanted
    assert hypervisor.info(DOMID - 1) is None  # Xen answers with the next one
    assert hypervisor.info(DOMID + 1) is None
    libraries.refusals["xc_domain_getinfolist"] = EIO
    with pytest.raises(HypervisorError, match="Input/output error"):
        hypervisor.info(DOMID)


def test_memory_is_that_of_the_kind_of_guest(host: Host, guest: Guest) -> None:
    hypervisor = host.hypervisor(elide_zeros=False)
    assert isinstance(hypervisor.memory(DOMID), HvmMemory)
    assert host.memories == []
    guest.flags = 0
    hypervisor.memory(DOMID)
    assert host.memories == [DOMID]
    with pytest.raises(HypervisorError, match="there is no domain 8"):
        hypervisor.memory(8)


def test_stopping_the_dirty_log_of_whom_ever(host: Host, guest: Guest) -> None:
    hypervisor = host.hypervisor()
    guest.logged = {1}
    for _ in range(2):
        hypervisor.stop_dirty_log(DOMID)
        assert guest.logged is None
    assert host.asked == [DOMID] * 2
    hypervisor.stop_dirty_log(8)  # gone meanwhile: nothing is left to be stopped
    assert host.asked == [DOMID] * 2


# Acts that may be repeated.


def test_pause_and_unpause(host: Host, guest: Guest) -> None:
    hypervisor = host.hypervisor()
    hypervisor.unpause(DOMID)
    hypervisor.pause(DOMID)
    assert guest.holds == 1
    hypervisor.pause(DOMID)
    assert guest.holds == 2
    for left in (1, 0, 0):
        hypervisor.unpause(DOMID)
        assert guest.holds == left
    with pytest.raises(HypervisorError, match="there is no domain 8"):
        hypervisor.unpause(8)
    with pytest.raises(HypervisorError, match=r"xc_domain_pause\(8\): No such process"):
        hypervisor.pause(8)


def test_destroy(host: Host, guest: Guest, libraries: FakeLibraries) -> None:
    hypervisor = host.hypervisor()
    libraries.refusals["xc_domain_destroy"] = EBUSY
    with pytest.raises(HypervisorError, match=r"xc_domain_destroy\(7\): Device or resource busy"):
        hypervisor.destroy(DOMID)
    libraries.refusals.clear()
    hypervisor.destroy(DOMID)
    assert libraries.guests == {}
    hypervisor.destroy(DOMID)


def test_resume(host: Host, guest: Guest, libraries: FakeLibraries) -> None:
    hypervisor = host.hypervisor()
    hypervisor.resume(DOMID)
    assert "xc_domain_resume" not in libraries.calls
    guest.shut_down(2)
    hypervisor.resume(DOMID)
    assert guest.flags == HVM
    hypervisor.resume(DOMID)
    assert libraries.calls.count("xc_domain_resume") == 1
    guest.shut_down(1)
    with pytest.raises(HypervisorError, match=r"reason 1 \(reboot\): there is nothing to resume"):
        hypervisor.resume(DOMID)
    with pytest.raises(HypervisorError, match="there is no domain 8"):
        hypervisor.resume(8)


def test_a_held_guest_is_resumed_into_its_hold(host: Host, guest: Guest) -> None:
    hypervisor = host.hypervisor()
    guest.shut_down(2)
    hypervisor.pause(DOMID)
    hypervisor.resume(DOMID)
    info = hypervisor.info(DOMID)
    assert info is not None
    assert info.run_state is RunState.PAUSED


def test_a_resume_that_failed_half_way_is_finished_when_repeated(
    host: Host, guest: Guest, store: Store
) -> None:
    hypervisor = host.hypervisor()
    ends(store, guest)
    store.release(DOMID)
    with pytest.raises(StoreError, match="RESUME"):
        hypervisor.resume(DOMID)
    assert guest.flags == HVM
    store.introduce(DOMID, 1, 1)
    store.control("shutdown", str(DOMID))
    hypervisor.resume(DOMID)
    assert told_of_the_next_shutdown(store, host.path)


def told_of_the_next_shutdown(store: Store, path: Path) -> bool:
    """Return whether xenstored fires when our domain is said to have shut down, 0.2 s from now."""
    after = time.monotonic() + 0.1  # the event that comes with the watch is before

    def shut_down(mine: Store) -> None:
        time.sleep(0.2)
        mine.control("shutdown", str(DOMID))

    with playing(path, shut_down):
        return store.wait("@releaseDomain", lambda: time.monotonic() > after or None, 10)
