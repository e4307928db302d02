"""Xen as a `Hypervisor`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING

from xenqemu.errors import HypervisorError
from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.host.guest_memory import GuestMemory
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xen import suspend_request
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory import dirty_log
from xenqemu.host.xen.memory.dirty_log import DirtyLog
from xenqemu.host.xen.memory.hvm_memory import HvmMemory
from xenqemu.host.xenstore.store import Store

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel


class XenHypervisor:
    """The Xen of this host.

    `store` gives a session with xenstore for a block and `device_model` the device model of a
    domain, not yet connected; `pv_memory` gives the memory of a PV guest.
    """

    def __init__(
        self,
        xen: Xen,
        store: Callable[[], AbstractContextManager[Store]],
        device_model: Callable[[int], DeviceModel | None],
        pv_memory: Callable[[int], GuestMemory],
        *,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        elide_zeros: bool = True,
    ) -> None:
        self._xen = xen
        self._control = Control(xen)
        self._store = store
        self._device_model = device_model
        self._pv_memory = pv_memory
        self._deadlines = deadlines
        self._elide_zeros = elide_zeros

    def info(self, domid: int) -> DomainInfo | None:
        """Return what Xen says of a domain, None if there is none of that id."""
        domain = self._control.domain(domid)
        return domain.info if domain else None

    def require_suspendable(self, domid: int) -> None:
        """Raise `HypervisorError` with the reason why a guest cannot be suspended as it is now."""
        with self._store() as store:
            suspend_request.require_suspendable(self._control, store, domid)

    def suspend(self, domid: int) -> None:
        """Make a guest suspend; raises what `suspend_request.suspend` does."""
        with self._store() as store:
            suspend_request.suspend(self._control, store, domid, self._deadlines)

    def suspend_requested(self, domid: int) -> bool:
        """Return whether a suspend request waits in xenstore."""
        with self._store() as store:
            return suspend_request.requested(store, domid)

    def withdraw_suspend(self, domid: int) -> None:
        """Withdraw a suspend request that was left, and wait a while for a guest that is late."""
        with self._store() as store:
            suspend_request.withdraw(self._control, store, domid, self._deadlines)

    def resume(self, domid: int) -> None:
        """Resume a suspended guest; nothing if it is running or paused.

        xenstored is told in any case, or it would not report the next suspend; so a resume that
        failed half-way can be repeated.
        """
        domain = self._control.existing(domid)
        if domain.run_state is RunState.SUSPENDED:
            self._control.resume(domid)
        elif domain.run_state not in {RunState.RUNNING, RunState.PAUSED}:
            raise HypervisorError(f"domain {domid} is {domain}: there is nothing to resume")
        with self._store() as store:
            store.resume(domid)

    def pause(self, domid: int) -> None:
        """Pause the vcpus; Xen counts pauses, each `unpause` undoes one."""
        self._control.pause(domid)

    def unpause(self, domid: int) -> None:
        """Unpause the vcpus; nothing if they are not paused."""
        if self._control.existing(domid).paused:
            self._control.unpause(domid)

    def destroy(self, domid: int) -> None:
        """End the domain at once; nothing if it is gone already."""
        self._control.destroy(domid)

    def memory(self, domid: int) -> GuestMemory:
        """Return the domain's memory: our own writer's, or the given one for a PV guest."""
        if not self._control.existing(domid).hvm:
            return self._pv_memory(domid)
        device_log = partial(self._switch_device_log, domid)
        return HvmMemory(self._xen, domid, device_log, elide_zeros=self._elide_zeros)

    def stop_dirty_log(self, domid: int) -> None:
        """Switch off the dirty logs of Xen and the device model; nothing if both are off."""
        if self._control.domain(domid) is not None:
            device_log = partial(self._switch_device_log, domid)
            dirty_log.stop(DirtyLog(self._xen, domid), device_log)

    def moment_memory(self, _domid: int) -> None:
        """Return None: Xen logs which pages change, and protects none of a guest that runs."""

    def read_rest(self, _domid: int, _uuid: str, _pipe: int) -> None:
        """Do nothing: there is no pipe."""

    def stop_moment(self, _domid: int, _bandwidth: int) -> None:
        """Do nothing: nothing was enabled."""

    def _switch_device_log(self, domid: int, on: bool) -> None:
        dirty_log.switch_device_log(self._device_model(domid), on=on)
