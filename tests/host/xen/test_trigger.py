"""The three ways to make a guest suspend, and every way that it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from errno import EINVAL, ENOBUFS
from typing import TypeVar

import pytest

from tests.host.xen.fake_xen import FakeLibraries, Guest
from tests.host.xen.guest_parts import DOMID, HOME, NODE, Host, ends, playing, requested
from xenqemu.errors import HostTimeout, HypervisorError, StoreError
from xenqemu.host.hypervisor import MaySuspendYet
from xenqemu.host.policy import Deadlines
from xenqemu.host.store import Store, Transaction
from xenqemu.host.xen import trigger
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.domain_info import HVM, SHUTDOWN
from xenqemu.host.xen.library import Xen

SOON = Deadlines(acknowledge=0.2, suspend=0.2)
ACPI_S_STATE = 14
ASLEEP = {0: 0x200000000000F3, ACPI_S_STATE: 3}

T = TypeVar("T")


# Suspend: by the control node.


def test_a_guest_is_asked_by_the_control_node(host: Host, guest: Guest, store: Store) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        mine.write(NODE, "")
        time.sleep(0.05)
        ends(mine, guest)

    for _again in range(2):  # the second time needs the RESUME that followed the first
        with playing(host.path, play):
            host.hypervisor().suspend(DOMID)
        assert guest.flags == HVM | SHUTDOWN | 2 << 16
        assert store.read(NODE) == ""
        host.hypervisor().resume(DOMID)


@pytest.mark.parametrize(("kind", "flags"), [("pv", 0), ("pvh", HVM), (None, 0)])
def test_pv_and_pvh_guests_are_always_asked(
    host: Host, guest: Guest, store: Store, kind: str | None, flags: int
) -> None:
    guest.flags, guest.params = flags, {}
    if kind:
        store.write(f"/libxl/{DOMID}/type", kind)

    def play(mine: Store) -> None:
        requested(mine)
        mine.remove(NODE)
        ends(mine, guest)

    with playing(host.path, play):
        host.hypervisor().suspend(DOMID)
    assert guest.flags == flags | SHUTDOWN | 2 << 16


def test_no_answer_and_the_request_is_taken_back(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(MaySuspendYet) as caught:
        host.hypervisor(SOON).suspend(DOMID)
    assert caught.value.withdrawn
    assert str(caught.value) == (
        "domain 7 did not take the request to suspend: control/shutdown still said "
        '"suspend" after 0.2 s, so the request was taken back'
    )
    assert store.read(NODE) == ""
    assert guest.flags == HVM


class AnswerComesLast(Store):
    """A store where the guest answers just when the wait for it is over."""

    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        try:
            return super().wait(path, ready, timeout)
        except HostTimeout:
            if path == NODE:
                self.write(NODE, "")
            raise


class AnswerComesInBetween(Store):
    """A store where the guest answers after the request was read again, before it is reset."""

    answered = False

    def atomically(self, change: Callable[[Transaction], T]) -> T:
        def interfered(transaction: Transaction) -> T:
            result = change(transaction)
            if not self.answered:
                self.answered = True
                self.write(NODE, "")
            return result

        return super().atomically(interfered)


@pytest.mark.parametrize("kind", [AnswerComesLast, AnswerComesInBetween])
def test_an_answer_at_the_last_moment_counts(host: Host, guest: Guest, kind: type[Store]) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        mine.wait(NODE, lambda: True if mine.read(NODE) == "" else None, 10)
        ends(mine, guest)

    with playing(host.path, play):
        host.hypervisor(Deadlines(acknowledge=0.2, suspend=20.0), kind).suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16


def test_a_guest_that_took_the_request_may_be_late(
    host: Host, guest: Guest, xen: Xen, store: Store
) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        mine.write(NODE, "")

    with playing(host.path, play), pytest.raises(MaySuspendYet) as caught:
        host.hypervisor(Deadlines(acknowledge=20.0, suspend=0.2)).suspend(DOMID)
    assert str(caught.value) == (
        "domain 7 did not suspend: it took the request, but 0.2 s later it still ran, "
        "and it may suspend yet"
    )
    with playing(host.path, lambda mine: ends(mine, guest)):
        trigger.await_suspended(Control(xen), store, DOMID, 20.0)


def test_a_guest_that_xenstored_does_not_tell_of_is_seen(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trigger, "LOOK_AGAIN", 0.1)

    def play(mine: Store) -> None:
        requested(mine)
        mine.write(NODE, "")
        time.sleep(0.3)
        guest.shut_down(2)

    with playing(host.path, play):
        host.hypervisor().suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16


@pytest.mark.parametrize(
    ("reason", "words"), [(1, r"reason 1 \(reboot\)"), (3, r"reason 3 \(crash\)")]
)
def test_another_end_than_suspending(host: Host, guest: Guest, reason: int, words: str) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        mine.write(NODE, "")
        ends(mine, guest, reason)

    with (
        playing(host.path, play),
        pytest.raises(HypervisorError, match=f"^domain 7 is shut down with {words} instead of"),
    ):
        host.hypervisor().suspend(DOMID)


def test_a_domain_that_goes_away(host: Host, guest: Guest, libraries: FakeLibraries) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        del libraries.guests[DOMID]
        mine.remove(HOME)

    with (
        playing(host.path, play),
        pytest.raises(HypervisorError, match="^domain 7 was destroyed while it was to suspend$"),
    ):
        host.hypervisor().suspend(DOMID)


class BreaksWhileWaiting(Store):
    """A store that fails once the request is written; `reset` is whether it works again then."""

    reset = True

    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        ready()
        raise StoreError("the connection was lost")

    def atomically(self, change: Callable[[Transaction], T]) -> T:
        if self.reset:
            return super().atomically(change)
        raise StoreError("it is gone for good")


class BreaksForGood(BreaksWhileWaiting):
    reset = False


def test_a_lost_store_takes_the_request_back_too(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(MaySuspendYet, match="so the request was taken back") as caught:
        host.hypervisor(store=BreaksWhileWaiting).suspend(DOMID)
    assert str(caught.value.__cause__) == "the connection was lost"
    assert store.read(NODE) == ""


def test_a_store_lost_for_good_says_what_is_left(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(MaySuspendYet) as caught:
        host.hypervisor(store=BreaksForGood).suspend(DOMID)
    assert str(caught.value) == (
        f"the connection was lost; {NODE} could not be reset (it is gone for good): "
        "it may suspend yet"
    )
    assert not caught.value.withdrawn
    assert store.read(NODE) == "suspend"


class Interrupted(Store):
    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        ready()
        raise KeyboardInterrupt


def test_an_interrupted_wait_takes_the_request_back(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(KeyboardInterrupt):
        host.hypervisor(store=Interrupted).suspend(DOMID)
    assert store.read(NODE) == ""


class NeverWatches(Store):
    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        raise StoreError("no more watches", "E2BIG")


def test_no_watch_no_request(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(StoreError, match="no more watches"):
        host.hypervisor(store=NeverWatches).suspend(DOMID)
    assert store.read(NODE) is None


# Suspend: forced.


@pytest.mark.parametrize("params", [{}, ASLEEP])
@pytest.mark.parametrize("kind", ["hvm", None])
def test_guests_that_cannot_answer_are_not_asked(
    host: Host, guest: Guest, store: Store, params: dict[int, int], kind: str | None
) -> None:
    guest.params = params
    store.write(f"{HOME}/control/feature-suspend", "0")
    store.write(f"{HOME}/device/suspend/event-channel", "")
    if kind:
        store.write(f"/libxl/{DOMID}/type", kind)
    host.hypervisor(SOON).suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16
    assert store.read(NODE) is None


def test_a_forced_guest_can_be_held(host: Host, guest: Guest) -> None:
    guest.params, guest.holds = {}, 1
    host.hypervisor(SOON).suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16


def test_a_forced_guest_can_be_late_too(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.params = {}
    monkeypatch.setattr(Guest, "shut_down", lambda _guest, _reason: None)
    with pytest.raises(MaySuspendYet, match="Xen was told to do so without it, but 0.2 s later"):
        host.hypervisor(SOON).suspend(DOMID)


# Suspend: by event channel.


def test_an_event_channel(host: Host, guest: Guest, store: Store, libraries: FakeLibraries) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")

    def stop() -> None:
        libraries.happen()  # one event that means nothing
        time.sleep(0.05)
        threading.Timer(0.1, lambda: (guest.shut_down(2), libraries.happen())).start()

    libraries.notified = stop
    host.hypervisor().suspend(DOMID)
    assert store.read(NODE) is None
    assert libraries.calls[-2:] == ["xc_suspend_evtchn_release", "xenevtchn_close"]


def test_an_event_channel_without_an_answer(host: Host, guest: Guest, store: Store) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")
    with pytest.raises(MaySuspendYet, match="event channel 5, but 0.2 s later it still ran"):
        host.hypervisor(SOON).suspend(DOMID)


@pytest.mark.parametrize("name", ["xc_suspend_evtchn_init_exclusive", "xenevtchn_notify"])
def test_an_event_channel_that_is_taken(
    host: Host, guest: Guest, store: Store, libraries: FakeLibraries, name: str
) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")
    libraries.refusals[name] = EINVAL
    with pytest.raises(HypervisorError, match=rf"{name}(\({DOMID}, 5\))?: Invalid argument"):
        host.hypervisor().suspend(DOMID)
    assert libraries.calls[-1] == "xenevtchn_close"


def test_a_sleeping_guest_is_not_told_by_its_channel(
    host: Host, guest: Guest, store: Store, libraries: FakeLibraries
) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")
    guest.params[ACPI_S_STATE] = 3
    host.hypervisor(SOON).suspend(DOMID)
    assert "xenevtchn_notify" not in libraries.calls


# Refusals, before the guest is touched.


def vnuma(guest: Guest) -> None:
    guest.vnuma = ENOBUFS


def vnuma_told(guest: Guest) -> None:
    guest.vnuma = 0


def paged(guest: Guest) -> None:
    guest.paged = 9


def suspended(guest: Guest) -> None:
    guest.shut_down(2)


def held(guest: Guest) -> None:
    guest.holds = 1


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (vnuma, "it has vNUMA, which no record can hold"),
        (vnuma_told, "it has vNUMA, which no record can hold"),
        (paged, "9 of its pages are paged out"),
        (suspended, r"it is shut down with reason 2 \(suspend\) already"),
        (held, "it is paused, and so cannot answer"),
    ],
)
def test_refusals(
    host: Host, guest: Guest, store: Store, prepare: Callable[[Guest], None], why: str
) -> None:
    prepare(guest)
    before = guest.flags
    with pytest.raises(HypervisorError, match=f"^domain 7 cannot be suspended: {why}$"):
        host.hypervisor().suspend(DOMID)
    assert store.read(NODE) is None
    assert guest.flags == before


def test_a_guest_that_says_it_would_not(host: Host, guest: Guest, store: Store) -> None:
    store.write(f"{HOME}/control/feature-suspend", "0")
    with pytest.raises(HypervisorError, match="control/feature-suspend = 0 that it would not$"):
        host.hypervisor().suspend(DOMID)
    assert store.read(NODE) is None


def test_no_domain(host: Host) -> None:
    with pytest.raises(HypervisorError, match="^there is no domain 8 to suspend$"):
        host.hypervisor().suspend(8)
