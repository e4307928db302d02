"""Suspend a running guest into a save record: the order of acts and their undo.

The guest is let go of only when its record is whole, read back, synced and in place.  Where the
guest stays (`After.CONTINUE`, `After.PAUSE`), it is released as soon as its memory is written:
what can still fail then costs the record, not the guest.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from xenqemu.formats.domain_config import DomainConfig
from xenqemu.host.domain import Host, require_running
from xenqemu.host.staging import staged
from xenqemu.operations.devices import cont, refuse_unsavable
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.image import write_record
from xenqemu.operations.journal import Journal, Undo
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
    observe: Observer = unobserved,
) -> Outline:
    """Save domain `domid` to `path` and return what the record holds.

    `config` takes the place of the domain's own; with `keep_domid` a restore asks for the same
    id, else for any, as with `xl save`.

    Raises what the tree in `xenqemu.errors` says; unless it is a `PastReturn` or `Stranded`, the
    guest is as it was.  `path` is as it was too, or (never with `After.DESTROY`) whole already.
    """
    own = host.config(domid)
    config = (config.with_extra(own.extra) if config else own).with_domid(domid * keep_domid)
    hypervisor = host.hypervisor
    with Journal("save", f"domain {domid} ({config.name})", observe) as job, staged(path) as draft:
        with job.phase(Phase.CHECK):
            _require_savable(host, domid)
        with job.phase(Phase.QUIESCE):
            suspended = job.undo("resume the guest", lambda: hypervisor.resume(domid))
            hypervisor.suspend(domid)
            stopped = job.undo("restart the device model", lambda: cont(host, domid))
            device_state = _stop_and_save(host, domid)
        with job.phase(Phase.SAVE):
            write_record(draft.file, config, hypervisor.memory(domid), device_state, job.progress)
        if after is not After.DESTROY:
            with job.phase(Phase.RELEASE):
                _release(host, domid, job, (stopped, suspended), held=after is After.PAUSE)
        with job.phase(Phase.VERIFY), draft.reopen() as record:
            found = verify(record)
        with job.phase(Phase.PUBLISH):
            if after is After.DESTROY:
                meaning = f"the record {path} is the guest now: destroy domain {domid}"
                job.commit_by(draft.publish, lambda: draft.published, meaning)
            else:
                draft.publish()
        if after is After.DESTROY:
            with job.phase(Phase.RELEASE):
                host.destroy(domid)
    return found


def _release(host: Host, domid: int, job: Journal, undos: tuple[Undo, Undo], *, held: bool) -> None:
    """Let the guest go on here, or keep it paused if it is to be held."""
    if held:
        job.undo("unpause the guest", lambda: host.hypervisor.unpause(domid))
        host.hypervisor.pause(domid)
    for undo in undos:
        job.take_back(undo)


def _require_savable(host: Host, domid: int) -> None:
    require_running(host, domid)
    device_model = host.device_model(domid)
    if device_model is not None:
        with device_model:
            refuse_unsavable(device_model, domid)


def _stop_and_save(host: Host, domid: int) -> bytes | None:
    """Stop the device model and return its state; None for a guest that has none.

    libxl's socket serves one client, so that nobody may sit in it while gigabytes are written:
    this, as every act on the device model, has a short connection of its own.
    """
    device_model = host.device_model(domid)
    if device_model is None:
        return None
    with device_model:
        device_model.stop()
        return device_model.save_state_bytes(live=False)
