"""Suspend a running guest into a save record: the order of acts and their undo.

The guest is let go of only when its record is whole, read back, synced and in place.  Where the
guest stays (`After.CONTINUE`, `After.PAUSE`), it is released as soon as its memory is written:
what can still fail then costs the record, not the guest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.formats.detect import Kind
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.host.domain import Host, require_running
from xenqemu.host.hypervisor import GuestMemory, MaySuspendYet
from xenqemu.host.ledger import About
from xenqemu.host.staging import Draft, staged
from xenqemu.operations import steps
from xenqemu.operations.devices import refuse_unsavable
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.image import room_for, write_record
from xenqemu.operations.journal import Journal, begin
from xenqemu.operations.outline import Outline
from xenqemu.operations.verify import verify


class After(Enum):
    """What becomes of the guest once it is saved."""

    DESTROY = "destroy"
    CONTINUE = "continue"
    PAUSE = "pause"


def suspend(
    host: Host,
    domid: int,
    path: Path,
    *,
    after: After = After.DESTROY,
    config: DomainConfig | None = None,
    keep_domid: bool = False,
    check: bool = True,
    timeout: float = math.inf,
    observe: Observer = unobserved,
) -> Outline:
    """Save domain `domid` to `path` and return what the record holds.

    `config` takes the place of the domain's own; with `keep_domid` a restore asks for the same
    id, else for any, as with `xl save`.  Unless `check`, the record is not read back, and what is
    returned says only its size.  All of it may take `timeout` seconds, up to where the guest is
    let go of.

    Raises what the tree in `xenqemu.errors` says; unless it is a `PastReturn` or `Stranded`, the
    guest is as it was.  `path` is as it was too, or (never with `After.DESTROY`) whole already.
    """
    own = host.config(domid)
    config = (config.with_extra(own.extra) if config else own).with_domid(domid * keep_domid)
    about = About("save", domid, own.name, own.uuid, str(path.absolute()))
    with Journal(host, begin(host, about), observe, timeout) as job, staged(path) as draft:
        guest = _Guest(host, domid, own.uuid, job)
        with job.phase(Phase.CHECK):
            guest.require_savable()
            job.leaving(steps.clear(draft.traces))
            draft.create()
            draft.reserve(room_for(config, guest.memory()))
        with job.phase(Phase.QUIESCE):
            device_state = guest.quiesce()
        with job.phase(Phase.SAVE):
            memory = guest.memory()
            draft.reserve(room_for(config, memory, device_state))
            write_record(draft.file, config, memory, device_state, job.progress)
        if after is not After.DESTROY:
            with job.phase(Phase.RELEASE):
                guest.release(held=after is After.PAUSE)
        found = _checked(draft, job) if check else Outline(Kind.XL, draft.file.tell())
        with job.phase(Phase.PUBLISH):
            guest.publish(draft, after)
        if after is After.DESTROY:
            with job.phase(Phase.RELEASE):
                job.finish()
    return found


@dataclass
class _Guest:
    """The guest that is saved: what is done to it, each act with what takes it back."""

    host: Host
    domid: int
    uuid: str
    job: Journal

    def __post_init__(self) -> None:
        self._undos: list[int] = []
        self._who = (self.domid, self.uuid)

    def require_savable(self) -> None:
        """Raise `HostError` if the guest does not run, or cannot be saved as it is."""
        require_running(self.host, self.domid)
        rivals = self.host.rivals(self.domid)
        if rivals:
            raise HostError(f"domain {self.domid} is in the hands of {rivals[0]}")
        device_model = self.host.device_model(self.domid)
        if device_model is not None:
            with device_model:
                refuse_unsavable(device_model, self.domid)

    def memory(self) -> GuestMemory:
        """Return its memory."""
        return self.host.hypervisor.memory(self.domid)

    def quiesce(self) -> bytes | None:
        """Bring guest and device model to a stop, and return the device model's state if any.

        libxl's socket serves one client, so that nobody may sit in it while gigabytes are written:
        this, as every act on the device model, has a short connection of its own.
        """
        self._suspend()
        self._undos.append(self.job.undo(steps.restart(*self._who)))
        device_model = self.host.device_model(self.domid)
        if device_model is None:
            return None
        with device_model:
            device_model.stop()
            return device_model.save_state_bytes(live=False)

    def release(self, *, held: bool) -> None:
        """Let the guest go on here, or keep it paused if it is to be held."""
        if held:
            self.job.undo(steps.unpause(*self._who))
            self.host.hypervisor.pause(self.domid)
        for undo in reversed(self._undos):
            self.job.take_back(undo)

    def publish(self, draft: Draft, after: After) -> None:
        """Give the record its name; where the guest does not stay, it is the guest from then on."""
        question = steps.published(draft)
        if after is After.DESTROY:
            meaning = f"the record {draft.path} is the guest now"
            then = (steps.destroy(*self._who),)
            self.job.commit(draft.publish, steps.Commit(question, meaning, then))
        else:
            self.job.foresee(steps.Commit(question, f"the record {draft.path} is whole"))
            draft.publish()

    def _suspend(self) -> None:
        self._undos.append(self.job.undo(steps.resume(*self._who)))
        late = self.job.undo(steps.settle(*self._who))
        try:
            self.host.hypervisor.suspend(self.domid)
        except MaySuspendYet as error:
            if error.withdrawn:
                self.job.undo(steps.watch(*self._who))
                self.job.drop(late)
            raise
        except HostError:
            self.job.drop(late)
            raise
        self.job.drop(late)


def _checked(draft: Draft, job: Journal) -> Outline:
    """Read the record back from the disk."""
    with job.phase(Phase.VERIFY):
        draft.sync()
        with draft.reopen() as record:
            return verify(record, read_all=True)
