"""Suspending a guest: libxl's three kinds of suspend request, and the wait that follows.

::

    a published event channel      notify it                             Xen tells by the same
                                                                         channel
    HVM without PV drivers         xc_domain_shutdown(SUSPEND):          at once
                                   the guest is not asked
    otherwise                      control/shutdown = "suspend";         the guest empties the
                                   watch, then write                     node, then suspends

The request in xenstore is withdrawn in a transaction when its deadline has passed: either the guest
acknowledged it, or it never will.  What libxl lacks: control/feature-suspend is read, a guest that
cannot acknowledge, such as a paused one, is not asked, and each error says which step failed, how
long it took, and whether the guest had acknowledged.  A guest that sleeps in ACPI S3 is refused:
libxl suspends it without asking, but no save file says that it sleeps, so a restored one never
wakes.

Sources: tools/libs/light/libxl_dom_suspend.c, docs/misc/xenstore-paths.pandoc.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from xenqemu.errors import HostError, HostTimeout, HypervisorError
from xenqemu.host.domain import RunState
from xenqemu.host.findings import Check, findings, require
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.protocol import SuspendPending
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.domain_info import SUSPEND, XenDomain
from xenqemu.host.xenstore.store import Store, Transaction
from xenqemu.system.cancellation import SLICE, check_cancelled
from xenqemu.system.deadline import Deadline

CALLBACK_IRQ = 0
"""HVM_PARAM_CALLBACK_IRQ: not zero once the guest has PV drivers."""

REQUEST = "suspend"

CHECKED = "suspend"
"""The key of what is found against a suspend."""

LOOK_AGAIN = 1.0
"""Seconds between two checks of the guest's run state, where xenstored reports nothing.

xenstored does not report a suspend if it was not told of the resume before, nor if the guest has an
event channel for suspend requests: then Xen notifies that channel only.
"""


def suspend(
    control: Control, store: Store, domid: int, deadlines: Deadlines = DEFAULT_DEADLINES
) -> None:
    """Make a guest suspend, and return when Xen says it has; a paused one stays paused.

    Raises `HypervisorError` before the guest is touched if it cannot be suspended, and later if
    it ended otherwise; `SuspendPending` if it did not acknowledge the request, which was then
    withdrawn, or acknowledged it and did not suspend in time.
    """
    _Suspend(control, store, domid, deadlines).request()()


def require_suspendable(control: Control, store: Store, domid: int) -> None:
    """Raise `HypervisorError` if a guest cannot be suspended as it is now; nothing is touched."""
    _Suspend(control, store, domid, DEFAULT_DEADLINES).request()


def requested(store: Store, domid: int) -> bool:
    """Return whether a suspend request waits for the guest to acknowledge it."""
    return store.read(_node(domid)) == REQUEST


def withdraw(
    control: Control, store: Store, domid: int, deadlines: Deadlines = DEFAULT_DEADLINES
) -> None:
    """Withdraw a request that is still there, and return once the guest has suspended late.

    Raises `SuspendPending` if it has not within `deadlines.late`.
    """
    withdrawn = store.atomically(_withdraw(_node(domid)))
    reached = "the request was withdrawn only now" if withdrawn else "it had been asked to suspend"
    await_suspended(control, store, domid, deadlines.late, reached)


def await_suspended(
    control: Control,
    store: Store,
    domid: int,
    seconds: float,
    reached: str = "it acknowledged the request",
) -> None:
    """Return when Xen says that the guest has suspended; `reached` says how far the request got.

    Raises `HypervisorError` if it ended otherwise, `SuspendPending` after `seconds`, or if
    its state can no longer be read.
    """
    start, deadline = time.monotonic(), Deadline.after(seconds)
    with _pending_on_error(domid, reached):
        while not _suspended(control, domid):
            check_cancelled()
            next_look = min(LOOK_AGAIN, deadline.left)
            try:
                store.wait("@releaseDomain", lambda: _suspended(control, domid), next_look)
            except HostTimeout as error:
                if deadline.passed and not _suspended(control, domid):
                    raise _late(domid, reached, time.monotonic() - start) from error


class _Suspend:
    """One suspend request to one guest."""

    def __init__(self, control: Control, store: Store, domid: int, deadlines: Deadlines) -> None:
        self._control = control
        self._store = store
        self._domid = domid
        self._deadlines = deadlines
        self._home = f"/local/domain/{domid}"
        self._node = _node(domid)

    def request(self) -> Callable[[], None]:
        """Return the act that has the guest suspend; raise `HypervisorError` if there is none.

        Of several reasons against it, all are raised as one `Refused`.
        """
        domain, port = self._living(), self._port()
        forced = port is None and self._type(domain) == "hvm" and not self._has_pv_drivers()
        checks: list[Check] = [
            (CHECKED, lambda: self._unsavable(domain)),
            (CHECKED, lambda: self._require_awake(domain)),
            (CHECKED, lambda: () if forced else self._unanswering(domain, port)),
        ]
        require(findings(checks), f"domain {self._domid} cannot be suspended")
        if forced:
            return self._force
        return self._ask_by_control_node if port is None else partial(self._ask_by_channel, port)

    def _living(self) -> XenDomain:
        domain = self._control.domain(self._domid)
        if domain is None:
            raise HypervisorError(f"there is no domain {self._domid} to suspend")
        if domain.run_state not in {RunState.RUNNING, RunState.PAUSED}:
            raise self._refused(f"it is {domain} already")
        return domain

    def _unsavable(self, domain: XenDomain) -> Iterator[HypervisorError]:
        """Yield what of the guest no save file can hold."""
        if domain.paged:
            yield self._refused(f"{domain.paged} of its pages are paged out")
        if self._control.has_vnuma(self._domid):
            yield self._refused("it has vNUMA, which a save file cannot hold")

    def _require_awake(self, domain: XenDomain) -> None:
        if domain.hvm:
            self._control.require_awake(self._domid)

    def _unanswering(self, domain: XenDomain, port: int | None) -> Iterator[HypervisorError]:
        """Yield why the guest would not answer a suspend request."""
        if domain.paused:
            yield self._refused("it is paused, so it cannot acknowledge the request")
        node = f"{self._home}/control/feature-suspend"
        if port is None and self._store.read(node) == "0":
            yield self._refused("control/feature-suspend is 0: the guest does not support it")

    def _has_pv_drivers(self) -> bool:
        return self._control.hvm_param(self._domid, CALLBACK_IRQ) != 0

    def _port(self) -> int | None:
        value = self._store.read(f"{self._home}/device/suspend/event-channel")
        return int(value) if value and value.isdecimal() else None

    def _type(self, domain: XenDomain) -> str:
        """Return libxl's "hvm", "pvh" or "pv"."""
        kind = self._store.read(f"/libxl/{self._domid}/type")
        return kind or ("hvm" if domain.hvm else "pv")

    def _force(self) -> None:
        self._control.shutdown(self._domid, SUSPEND)
        with _pauses_lifted(self._control, self._domid):
            self._await("Xen was told to suspend it without asking it")

    def _ask_by_channel(self, port: int) -> None:
        reached = f"it was asked by event channel {port}"
        start = time.monotonic()
        deadline = Deadline.after(self._deadlines.suspend)
        with self._control.suspend_channel(self._domid, port) as channel:
            channel.notify()
            with _pending_on_error(self._domid, reached):
                while not _suspended(self._control, self._domid):
                    if deadline.passed:
                        raise _late(self._domid, reached, time.monotonic() - start)
                    channel.wait(min(SLICE, deadline.left))
                    check_cancelled()

    def _ask_by_control_node(self) -> None:
        start = time.monotonic()
        request = _Request(self._store, self._node)
        try:
            self._store.wait(self._node, request.acknowledged, self._deadlines.acknowledge)
        except BaseException as error:  # an interrupted wait must not leave the request either
            withdrawn = request.written and self._withdrawn(error)
            if withdrawn and isinstance(error, HostError):
                raise self._unanswered(time.monotonic() - start) from error
            if not (request.written and isinstance(error, HostError)):
                raise
        self._await("it acknowledged the request")

    def _withdrawn(self, error: BaseException) -> bool:
        """Withdraw the request; False if the guest acknowledged it at the last moment."""
        try:
            return self._store.atomically(_withdraw(self._node))
        except HostError as second:
            words = f"{error}; {self._node} could not be reset ({second}): it may still suspend"
            raise SuspendPending(words) from error

    def _await(self, reached: str) -> None:
        seconds = self._deadlines.suspend
        await_suspended(self._control, self._store, self._domid, seconds, reached)

    def _unanswered(self, waited: float) -> SuspendPending:
        words = (
            f"domain {self._domid} did not acknowledge the suspend request: control/shutdown still "
            f'said "{REQUEST}" after {waited:.1f} s, so the request was withdrawn'
        )
        return SuspendPending(words, withdrawn=True)

    def _refused(self, why: str) -> HypervisorError:
        return HypervisorError(f"domain {self._domid} cannot be suspended: {why}")


@contextmanager
def _pauses_lifted(control: Control, domid: int) -> Iterator[None]:
    """Lift the pauses of a domain that is shutting down, for the block.

    A vcpu that waits for its device model is let finish that instruction before it stops, and does
    so only while it is not paused; it executes no other one (vcpu_end_shutdown_deferral).
    """
    pauses = 0
    try:
        while not _suspended(control, domid) and control.existing(domid).paused:
            control.unpause(domid)
            pauses += 1
        yield
    finally:
        for _ in range(pauses):
            control.pause(domid)


class _Request:
    """The request in xenstore, written at the first check, when the watch is set already."""

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self.written = False

    def acknowledged(self) -> bool | None:
        """Return True once the guest has acknowledged; a node that is gone counts too."""
        if not self.written:
            self.written = True
            self._store.write(self._node, REQUEST)
        return None if self._store.read(self._node) == REQUEST else True


class _Ended(HypervisorError):
    """The guest is gone, or ended otherwise than by suspending."""


@contextmanager
def _pending_on_error(domid: int, reached: str) -> Iterator[None]:
    """Turn any other error in the block into `SuspendPending`: the guest was asked."""
    try:
        yield
    except (SuspendPending, _Ended):
        raise
    except HostError as error:
        raise SuspendPending(f"{error}; domain {domid} may still suspend: {reached}") from error


def _suspended(control: Control, domid: int) -> bool | None:
    """Return True if the guest has suspended, None if it runs; raise if it ended otherwise."""
    domain = control.domain(domid)
    if domain is None:
        raise _Ended(f"domain {domid} was destroyed while it was being suspended")
    if domain.run_state is RunState.SUSPENDED:
        return True
    if domain.run_state in {RunState.RUNNING, RunState.PAUSED}:
        return None
    raise _Ended(f"domain {domid} is {domain} instead of suspended")


def _node(domid: int) -> str:
    return f"/local/domain/{domid}/control/shutdown"


def _withdraw(node: str) -> Callable[[Transaction], bool]:
    """Return what withdraws a request in a transaction, and returns whether there was one."""

    def withdraw(transaction: Transaction) -> bool:
        waiting = transaction.read(node) == REQUEST
        if waiting:
            transaction.write(node, "")
        return waiting

    return withdraw


def _late(domid: int, reached: str, waited: float) -> SuspendPending:
    return SuspendPending(
        f"domain {domid} did not suspend: {reached}, but {waited:.1f} s later "
        "it was still running, and it may still suspend"
    )
