"""What another process may have to do: steps, and questions about the point of no return.

Both are logged before they can be needed, so they are plain values that can be written as JSON.  A
step may be performed twice, or although the act it undoes never happened; it first checks that the
domain of that id is still the same guest.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xenqemu.errors import HostError
from xenqemu.formats.typed_json import Tagged
from xenqemu.host.domain import RunState
from xenqemu.host.domain_state import state
from xenqemu.host.protocol import Host, SuspendPending
from xenqemu.operations import guest_leases
from xenqemu.system.staged_file import Identity, Traces


class Overtaken(HostError):
    """The domain has ended meanwhile, or was resumed by somebody: nothing is left to do to it."""


class Step(Tagged, ABC):
    """An act that undoes, cleans up or finishes.

    `words` complete the sentence "could not …", with its fields in braces.
    """

    _words: ClassVar[str]

    def __init_subclass__(cls, words: str = "") -> None:
        super().__init_subclass__()
        cls._words = words

    @property
    def text(self) -> str:
        """What it does, for people."""
        return self._words.format(**vars(self))

    @abstractmethod
    def perform(self, host: Host) -> None:
        """Do it; raise what the act raises, `Overtaken` if it is no longer needed."""


class Question(Tagged, ABC):
    """Whether a point of no return was passed: an act whose answer was lost has been done."""

    @abstractmethod
    def passed(self, host: Host) -> bool:
        """Return whether it was; raise if that cannot be seen."""


@dataclass(frozen=True)
class Commit:
    """A point of no return: `question` tells whether it was passed, `then` is done after it.

    `meaning` says what is the guest from then on.  Without a question only the other host knows.
    """

    question: Question | None
    meaning: str
    then: tuple[Step, ...] = ()


class OnGuest(Step):
    """A step on a domain, if it still is the guest of this uuid."""

    domid: int
    uuid: str

    def perform(self, host: Host) -> None:
        """Do it, unless the guest is gone."""
        _require_present(host, self.domid, self.uuid)
        self._act(host)

    @abstractmethod
    def _act(self, host: Host) -> None: ...


class Resume(OnGuest, words="resume the guest"):
    """Resume a suspended guest."""

    def _act(self, host: Host) -> None:
        host.hypervisor.resume(self.domid)


class WithdrawSuspend(OnGuest, words="withdraw the suspend request"):
    """Withdraw a suspend request, and resume a guest that suspends all the same.

    If it was `withdrawn` in time, the guest hardly suspends any more: not to see it is no failure.
    """

    withdrawn: bool = False

    def _act(self, host: Host) -> None:
        try:
            host.hypervisor.withdraw_suspend(self.domid)
            host.hypervisor.resume(self.domid)
        except SuspendPending:
            if not self.withdrawn:
                raise


class ContinueDeviceModel(OnGuest, words="continue the device model"):
    """Continue the device model."""

    def _act(self, host: Host) -> None:
        cont(host, self.domid)


class StopDirtyLog(OnGuest, words="stop the dirty log"):
    """Stop the dirty logs of Xen and QEMU."""

    def _act(self, host: Host) -> None:
        host.hypervisor.stop_dirty_log(self.domid)


class ReadRest(Step, words="read the rest of QEMU's snapshot, for which the guest waits"):
    """Read what a device model still has to send of a moment's memory.

    Nobody is asked for the guest before: a device model that waits for this may answer nothing.
    """

    domid: int
    uuid: str
    pipe: int

    def perform(self, host: Host) -> None:
        """Do it, unless the guest is gone."""
        host.hypervisor.read_rest(self.domid, self.uuid, self.pipe)


class StopMoment(OnGuest, words="end QEMU's snapshot"):
    """Have a device model as it was before it was to save a moment's memory."""

    bandwidth: int

    def _act(self, host: Host) -> None:
        host.hypervisor.stop_moment(self.domid, self.bandwidth)


class Unpause(OnGuest, words="unpause the guest"):
    """Unpause the guest."""

    def _act(self, host: Host) -> None:
        host.hypervisor.unpause(self.domid)


class Rename(OnGuest, words="rename domain {domid} back to {new}"):
    """Rename a domain back."""

    old: str
    new: str

    def _act(self, host: Host) -> None:
        host.rename(self.domid, self.old, self.new)


class Destroy(Step, words="destroy domain {domid}"):
    """Destroy a suspended domain that was saved or migrated, and what is left of it."""

    domid: int
    uuid: str

    def perform(self, host: Host) -> None:
        """Destroy it, unless another domain has its id."""
        info = host.hypervisor.info(self.domid)
        if info is not None:
            if info.uuid.lower() != self.uuid.lower():
                return
            if info.run_state is RunState.RUNNING:
                raise Overtaken(f"domain {self.domid} runs: somebody has resumed it")
        host.destroy(self.domid)


class DateSaveFile(Step, words="date the save file {path}"):
    """Have a save file be from when its guest last could write to its disks.

    That is `at`, in nanoseconds of Unix time; 0 is now, when the guest is gone and its disk images
    are closed.
    """

    path: str
    identity: Identity
    at: int = 0

    def perform(self, _host: Host) -> None:
        """Do it, unless the file was moved away or replaced."""
        if self.identity.is_at(self.path):
            at = self.at or time.time_ns()
            os.utime(self.path, ns=(at, at), follow_symlinks=False)


class DestroyIncomplete(Step, words="destroy what was built of {name}"):
    """Destroy what was built, or was being built, under this name, if it has not run."""

    name: str
    uuid: str

    def perform(self, host: Host) -> None:
        """Destroy all of it."""
        for domid in host.domids_of(self.name, self.uuid):
            Destroy(domid, self.uuid).perform(host)


class KeepDisks(Step, words="keep the leases of the guest's disks"):
    """Note in the leases that the guest is here for good, and may write its images."""

    uuid: str
    images: tuple[str, ...]

    def perform(self, host: Host) -> None:
        """Note it in the images' leases."""
        guest_leases.keep(host, self.uuid, self.images)


class RemoveDraft(Step, words="remove {traces.temporary}"):
    """Remove what a draft left in its folder."""

    traces: Traces

    @property
    def file(self) -> Path:
        """The draft."""
        return Path(self.traces.path).with_name(self.traces.temporary)

    def perform(self, _host: Host) -> None:
        """Remove it."""
        self.traces.clear()


class Published(Question):
    """Whether a file has its final name."""

    path: str
    identity: Identity

    def passed(self, _host: Host) -> bool:
        """Return whether the file of that name is this one."""
        return self.identity.is_at(self.path)


class HasRun(Question):
    """Whether a domain that was to be unpaused may have run."""

    domid: int
    uuid: str

    def passed(self, host: Host) -> bool:
        """Return whether it may have run."""
        now = state(host, self.domid)
        if now.info is None or now.info.uuid.lower() != self.uuid.lower():
            return bool(now.trouble)
        return bool(now.trouble) or now.info.run_state not in (RunState.PAUSED, RunState.SUSPENDED)


class HasName(Question):
    """Whether a domain has a name."""

    domid: int
    uuid: str
    name: str

    def passed(self, host: Host) -> bool:
        """Return whether it has; raise `Overtaken` if it is gone."""
        _require_present(host, self.domid, self.uuid)
        return state(host, self.domid).name == self.name


def cont(host: Host, domid: int) -> None:
    """Continue the device model of a domain; do nothing if it has none."""
    device_model = host.device_model(domid)
    if device_model is not None:
        with device_model:
            device_model.cont()


def _require_present(host: Host, domid: int, uuid: str) -> None:
    info = host.hypervisor.info(domid)
    if info is None or info.run_state is RunState.DYING or info.uuid.lower() != uuid.lower():
        raise Overtaken(f"domain {domid} is gone: it was destroyed, or ended, meanwhile")
