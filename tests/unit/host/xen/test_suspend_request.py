"""The three ways to make a guest suspend, and every way that it does not."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from errno import EINVAL, EIO, ENOBUFS
from typing import TypeVar

import pytest

from tests.doubles.xen.fake_xen import FakeLibraries, Guest
from tests.doubles.xen.guest_parts import DOMID, HOME, LONG, NODE, Host, ends, playing, requested
from xenqemu.errors import Cancelled, HostTimeout, HypervisorError, Refused, StoreError
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.protocol import SuspendPending
from xenqemu.host.xen import suspend_request
from xenqemu.host.xen.control import ACPI_S_STATE, Control
from xenqemu.host.xen.domain_info import HVM, SHUTDOWN
from xenqemu.host.xen.library import Xen
from xenqemu.host.xenstore.store import Store, Transaction
from xenqemu.system.cancellation import Cancellation, cancellable

SOON = Deadlines(acknowledge=0.2, suspend=0.2)

T = TypeVar("T")


def said(error: BaseException) -> str:
    """Return what an error says; how long it took is not for a busy machine to say."""
    return re.sub(r"\d+\.\d s\b", "N s", str(error))


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


def test_no_answer_and_the_request_is_withdrawn(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(SuspendPending) as caught:
        host.hypervisor(SOON).suspend(DOMID)
    assert caught.value.withdrawn
    assert said(caught.value) == (
        "domain 7 did not acknowledge the suspend request: control/shutdown still said "
        '"suspend" after N s, so the request was withdrawn'
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

    with playing(host.path, play), pytest.raises(SuspendPending) as caught:
        host.hypervisor(Deadlines(acknowledge=20.0, suspend=0.2)).suspend(DOMID)
    assert said(caught.value) == (
        "domain 7 did not suspend: it acknowledged the request, but N s later "
        "it was still running, and it may still suspend"
    )
    with playing(host.path, lambda mine: ends(mine, guest)):
        suspend_request.await_suspended(Control(xen), store, DOMID, 20.0)


def test_a_guest_that_xenstored_does_not_tell_of_is_seen(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspend_request, "LOOK_AGAIN", 0.1)

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
        pytest.raises(
            HypervisorError, match="^domain 7 was destroyed while it was being suspended$"
        ),
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


def test_a_lost_store_withdraws_the_request_too(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(SuspendPending, match="so the request was withdrawn") as caught:
        host.hypervisor(store=BreaksWhileWaiting).suspend(DOMID)
    assert str(caught.value.__cause__) == "the connection was lost"
    assert store.read(NODE) == ""


def test_a_store_lost_for_good_says_what_is_left(host: Host, guest: Guest, store: Store) -> None:
    with pytest.raises(SuspendPending) as caught:
        host.hypervisor(store=BreaksForGood).suspend(DOMID)
    assert str(caught.value) == (
        f"the connection was lost; {NODE} could not be reset (it is gone for good): "
        "it may still suspend"
    )
    assert not caught.value.withdrawn
    assert store.read(NODE) == "suspend"


class Interrupted(Store):
    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        ready()
        raise KeyboardInterrupt


def test_an_interrupted_wait_withdraws_the_request(host: Host, guest: Guest, store: Store) -> None:
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


@pytest.mark.parametrize("kind", ["hvm", None])
def test_guests_that_cannot_answer_are_not_asked(
    host: Host, guest: Guest, store: Store, kind: str | None
) -> None:
    guest.params = {}
    store.write(f"{HOME}/control/feature-suspend", "0")
    store.write(f"{HOME}/device/suspend/event-channel", "")
    if kind:
        store.write(f"/libxl/{DOMID}/type", kind)
    host.hypervisor(SOON).suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16
    assert store.read(NODE) is None


@pytest.mark.parametrize("pauses", [1, 3])
@pytest.mark.parametrize("in_io", [False, True])
def test_a_guest_that_is_not_asked_may_be_paused_and_stays_so(
    host: Host, guest: Guest, libraries: FakeLibraries, pauses: int, in_io: bool
) -> None:
    guest.params, guest.holds, guest.in_io = {}, pauses, in_io
    host.hypervisor(SOON).suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16
    assert guest.holds == pauses
    assert libraries.calls.count("xc_domain_unpause") == (pauses if in_io else 0)


def test_a_forced_guest_can_be_late_too(
    host: Host, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest.params = {}
    monkeypatch.setattr(Guest, "shut_down", lambda _guest, _reason: None)
    with pytest.raises(
        SuspendPending, match=r"told to suspend it without asking it, but \d\.\d s later"
    ):
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
    with pytest.raises(
        SuspendPending, match=r"event channel 5, but \d\.\d s later it was still running"
    ):
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


def test_a_paused_guest_is_not_asked_by_its_channel(
    host: Host, guest: Guest, store: Store, libraries: FakeLibraries
) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")
    guest.holds = 1
    with pytest.raises(HypervisorError, match="it is paused, so it cannot acknowledge"):
        host.hypervisor(SOON).suspend(DOMID)
    assert "xenevtchn_notify" not in libraries.calls


# Suspend: refused beforehand.


@pytest.mark.parametrize("channel", ["5", ""])
@pytest.mark.parametrize("params", [{}, {0: 0x200000000000F3}])
def test_a_guest_that_sleeps_in_acpi_s3_is_refused_and_sleeps_on(
    host: Host, guest: Guest, store: Store, channel: str, params: dict[int, int]
) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", channel)
    guest.params = {**params, ACPI_S_STATE: 3}
    hypervisor = host.hypervisor(SOON)
    for act in (hypervisor.require_suspendable, hypervisor.suspend):
        with pytest.raises(HypervisorError) as caught:
            act(DOMID)
        assert str(caught.value) == (
            "domain 7 sleeps in ACPI S3, which no save file can say: "
            "wake it first (xl trigger 7 s3resume)"
        )
    assert (guest.flags, guest.params[ACPI_S_STATE], store.read(NODE)) == (HVM, 3, None)


def test_whether_a_guest_can_be_suspended_is_told_without_asking_it(
    host: Host, guest: Guest, store: Store
) -> None:
    host.hypervisor(SOON).require_suspendable(DOMID)
    assert (guest.flags, store.read(NODE)) == (HVM, None)
    store.write(f"{HOME}/control/feature-suspend", "0")
    with pytest.raises(HypervisorError, match="control/feature-suspend is 0"):
        host.hypervisor(SOON).require_suspendable(DOMID)


def test_every_reason_against_a_suspend_is_told_at_once(
    host: Host, guest: Guest, store: Store
) -> None:
    store.write(f"{HOME}/control/feature-suspend", "0")
    guest.params = {0: 0x200000000000F3, ACPI_S_STATE: 3}
    guest.holds = 1
    for act in (host.hypervisor().require_suspendable, host.hypervisor().suspend):
        with pytest.raises(Refused) as caught:
            act(DOMID)
        assert str(caught.value) == "domain 7 cannot be suspended, for 3 reasons"
        words = [str(each).partition(": ")[2] for each in caught.value.reasons[1:]]
        assert words == [
            "it is paused, so it cannot acknowledge the request",
            "control/feature-suspend is 0: the guest does not support it",
        ]
        assert "sleeps in ACPI S3" in str(caught.value.reasons[0])
    assert store.read(NODE) is None


# Operations that are to end while they wait, and parties that fail meanwhile.


def out_of_time() -> None:
    raise HostTimeout("all of it was to take 1 s at most")


def cancelled() -> None:
    raise Cancelled("cancelled")


def unless_asked(store: Store, end: Callable[[], None]) -> Cancellation:
    """Have the operation end, but not while the guest has yet to take the request."""
    return Cancellation(lambda: None if store.read(NODE) == "suspend" else end())


def takes(store: Store) -> None:
    """Be a guest that takes the request, and no more."""
    requested(store)
    store.write(NODE, "")


def by_node(_store: Store, _guest: Guest) -> None:
    """Have the guest asked by xenstore."""


def by_channel(store: Store, _guest: Guest) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")


def by_force(_store: Store, guest: Guest) -> None:
    guest.params = {}


@pytest.fixture(params=[by_node, by_channel, by_force])
def asked(
    request: pytest.FixtureRequest,
    host: Host,
    guest: Guest,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A guest that was asked to suspend, in each way, and does not."""
    request.param(store, guest)
    monkeypatch.setattr(Guest, "shut_down", lambda _guest, _reason: None)
    with playing(host.path, takes) if request.param is by_node else nullcontext():
        yield


@pytest.mark.usefixtures("asked")
def test_out_of_time_the_guest_may_suspend_yet(host: Host, store: Store) -> None:
    """Who is told of the time alone would not look out for the guest any more."""
    start = time.monotonic()
    with pytest.raises(SuspendPending) as caught, cancellable(unless_asked(store, out_of_time)):
        host.hypervisor().suspend(DOMID)
    assert time.monotonic() - start < LONG.suspend / 2
    assert not caught.value.withdrawn
    words = "all of it was to take 1 s at most; domain 7 may still suspend: "
    assert str(caught.value).startswith(words)


@pytest.mark.usefixtures("asked")
def test_cancelled_while_the_guest_was_asked(host: Host, store: Store) -> None:
    with pytest.raises(Cancelled), cancellable(unless_asked(store, cancelled)):
        host.hypervisor().suspend(DOMID)


def test_out_of_time_before_the_guest_took_the_request(
    host: Host, guest: Guest, store: Store
) -> None:
    with pytest.raises(SuspendPending) as caught, cancellable(Cancellation(out_of_time)):
        host.hypervisor().suspend(DOMID)
    assert caught.value.withdrawn
    assert str(caught.value.__cause__) == "all of it was to take 1 s at most"
    assert store.read(NODE) == ""


def test_cancelled_before_the_guest_took_the_request(
    host: Host, guest: Guest, store: Store
) -> None:
    with pytest.raises(Cancelled), cancellable(Cancellation(cancelled)):
        host.hypervisor().suspend(DOMID)
    assert store.read(NODE) == ""


class BreaksOnceTaken(Store):
    """A store whose connection ends when the guest has taken the request."""

    def wait(self, path: str, ready: Callable[[], T | None], timeout: float) -> T:
        if path == NODE:
            return super().wait(path, ready, timeout)
        raise StoreError("the connection was lost")


def test_a_store_lost_while_the_guest_is_to_suspend(host: Host, guest: Guest) -> None:
    with playing(host.path, takes), pytest.raises(SuspendPending) as caught:
        host.hypervisor(store=BreaksOnceTaken).suspend(DOMID)
    assert str(caught.value) == (
        "the connection was lost; domain 7 may still suspend: it acknowledged the request"
    )
    assert isinstance(caught.value.__cause__, StoreError)


def test_xen_that_tells_no_more_while_the_guest_is_to_suspend(
    host: Host, guest: Guest, libraries: FakeLibraries
) -> None:
    def play(mine: Store) -> None:
        requested(mine)
        libraries.refusals["xc_domain_getinfolist"] = EIO
        mine.write(NODE, "")

    with (
        playing(host.path, play),
        pytest.raises(SuspendPending, match=r"error; domain 7 may still susp"),
    ):
        host.hypervisor().suspend(DOMID)


# Settling: what is left of a request that was given up.

LATE = Deadlines(late=0.2)


def test_a_request_that_is_still_there_is_withdrawn(host: Host, guest: Guest, store: Store) -> None:
    store.write(NODE, "suspend")
    with pytest.raises(SuspendPending) as caught:
        host.hypervisor(LATE).withdraw_suspend(DOMID)
    assert said(caught.value) == (
        "domain 7 did not suspend: the request was withdrawn only now, but N s later it was "
        "still running, and it may still suspend"
    )
    assert store.read(NODE) == ""


@pytest.mark.parametrize("other", ["", "poweroff", None])
def test_another_request_is_left_alone(
    host: Host, guest: Guest, store: Store, other: str | None
) -> None:
    if other is not None:
        store.write(NODE, other)
    with pytest.raises(
        SuspendPending, match=r"did not suspend: it had been asked to suspend, but \d\.\d s"
    ):
        host.hypervisor(LATE).withdraw_suspend(DOMID)
    assert store.read(NODE) == other


def test_a_guest_that_suspends_late_is_waited_for(host: Host, guest: Guest, store: Store) -> None:
    def play(mine: Store) -> None:
        time.sleep(0.1)
        ends(mine, guest)

    with playing(host.path, play):
        host.hypervisor(Deadlines(late=20.0)).withdraw_suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16


def test_a_guest_that_has_suspended_is_not_waited_for(
    host: Host, guest: Guest, store: Store
) -> None:
    store.write(NODE, "suspend")  # the guest does not empty the node where it is forced
    guest.shut_down(2)
    host.hypervisor(Deadlines(late=0.0)).withdraw_suspend(DOMID)
    assert store.read(NODE) == ""


def test_settling_takes_no_time_that_there_is_not(host: Host, guest: Guest) -> None:
    with pytest.raises(SuspendPending, match=r"0\.0 s later"):
        host.hypervisor(Deadlines(late=0.0)).withdraw_suspend(DOMID)


@pytest.mark.parametrize("reason", [0, 3])
def test_settling_a_guest_that_ended_otherwise(host: Host, guest: Guest, reason: int) -> None:
    guest.shut_down(reason)
    with pytest.raises(HypervisorError, match="^domain 7 is shut down with .* instead of susp"):
        host.hypervisor(LATE).withdraw_suspend(DOMID)


def test_settling_a_domain_that_is_gone(
    host: Host, guest: Guest, store: Store, libraries: FakeLibraries
) -> None:
    libraries.guests.clear()
    store.remove(HOME)
    with pytest.raises(
        HypervisorError, match="^domain 7 was destroyed while it was being suspended$"
    ):
        host.hypervisor(LATE).withdraw_suspend(DOMID)
    assert store.read(NODE) is None


def test_settling_without_a_store(host: Host, guest: Guest) -> None:
    with pytest.raises(StoreError, match="it is gone for good"):
        host.hypervisor(LATE, store=BreaksForGood).withdraw_suspend(DOMID)


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
        (vnuma, "it has vNUMA, which a save file cannot hold"),
        (vnuma_told, "it has vNUMA, which a save file cannot hold"),
        (paged, "9 of its pages are paged out"),
        (suspended, r"it is shut down with reason 2 \(suspend\) already"),
        (held, "it is paused, so it cannot acknowledge the request"),
    ],
)
def test_refusals(
    host: Host, guest: Guest, store: Store, prepare: Callable[[Guest], None], why: str
) -> None:
    prepare(guest)
    before = guest.flags
    for act in (host.hypervisor().require_suspendable, host.hypervisor().suspend):
        with pytest.raises(HypervisorError, match=f"^domain 7 cannot be suspended: {why}$"):
            act(DOMID)
    assert store.read(NODE) is None
    assert guest.flags == before


def test_a_paused_guest_with_an_event_channel_cannot_answer_there_either(
    host: Host, guest: Guest, store: Store
) -> None:
    store.write(f"{HOME}/device/suspend/event-channel", "5")
    guest.holds = 1
    with pytest.raises(HypervisorError, match="it is paused, so it cannot acknowledge"):
        host.hypervisor().require_suspendable(DOMID)


def test_a_paused_guest_that_is_not_asked_is_suspended_and_stays_paused(
    host: Host, guest: Guest, store: Store
) -> None:
    store.write(f"/libxl/{DOMID}/type", "hvm")
    guest.params, guest.holds = {}, 1  # no PV drivers
    hypervisor = host.hypervisor()
    hypervisor.require_suspendable(DOMID)
    assert guest.flags == HVM
    hypervisor.suspend(DOMID)
    assert guest.flags == HVM | SHUTDOWN | 2 << 16
    hypervisor.resume(DOMID)
    info = hypervisor.info(DOMID)
    assert info is not None
    assert (info.run_state.value, guest.holds) == ("paused", 1)
    assert store.read(NODE) is None


def test_a_guest_that_says_it_would_not(host: Host, guest: Guest, store: Store) -> None:
    store.write(f"{HOME}/control/feature-suspend", "0")
    with pytest.raises(
        HypervisorError, match="control/feature-suspend is 0: the guest does not support it$"
    ):
        host.hypervisor().suspend(DOMID)
    assert store.read(NODE) is None


def test_no_domain(host: Host) -> None:
    with pytest.raises(HypervisorError, match="^there is no domain 8 to suspend$"):
        host.hypervisor().suspend(8)
