"""Restore a guest from a save file.

Everything that can be checked is checked before anything is built, also what the config would have
this host use.  What is built is what was checked: the config of that time, and the bytes, which are
compared.  The domain is built paused; from the moment it is unpaused it is the guest, and the save
file is out of date.  A guest that was paused when it was saved comes back paused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import require_running
from xenqemu.host.findings import require
from xenqemu.host.protocol import BuildOptions, Host
from xenqemu.operations import after_save
from xenqemu.operations.check_restore import CFG_INSTEAD, aged, takeable
from xenqemu.operations.checked_save_file import CheckedSaveFile, config_of, opened_save_file
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.inspect import Contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import RestoreOptions, key_for, seconds_for
from xenqemu.operations.save_file import was_paused
from xenqemu.system.zstd.unpacked import unpacked


@dataclass(frozen=True)
class Restored:
    """The new domain's id, what its save file held, and whether it was left paused."""

    domid: int
    contents: Contents
    paused: bool


def restore(
    host: Host,
    path: Path,
    options: RestoreOptions = RestoreOptions(),
    *,
    before_run: Callable[[], None] = lambda: None,
    observe: Observer = unobserved,
) -> Restored:
    """Restore a domain from the save file `path`, and unpause it unless it is to stay paused.

    `before_run` is called once the guest is built, before it is unpaused; if it raises, the restore
    is rolled back.  What the save file holds is left as it is.  A config in `options` is trusted.

    Errors before anything was built are raised as they are; `RolledBack` means that nothing is left
    of the attempt, `PastReturn` that the new domain may have run already.
    """
    key = key_for(host, options)
    with opened_save_file(path, host.trust) as file, unpacked(file) as save_file:
        own = config_of(save_file)
        used = own if options.config is None else options.config.with_extra(own.extra)
        paused = options.paused or was_paused(own)
        about = About("restore", 0, used.name, used.uuid, str(path.absolute()))
        with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
            with job.phase(Phase.CHECK):
                checked = CheckedSaveFile.of(
                    path, file, save_file, own, sealed=options.seal, key=key
                )
                found = takeable(
                    host,
                    checked.needs(used),
                    own,
                    options.config,
                    instead=CFG_INSTEAD,
                )
                age = aged(file, used, strict=options.strict_disks)
                for warning in require(chain(found, age), f"{used.name} cannot be restored here"):
                    job.note(str(warning))
            with job.phase(Phase.BUILD):
                destroy = steps.DestroyIncomplete(used.name, used.uuid)
                building = job.cleanup(destroy)  # what fails to be built leaves nothing by itself
                how = BuildOptions(checked.contents.size, used, options.monitor)
                again = checked.again()
                domid = host.build(again.source, job.progress, how)
                job.undo(destroy)
                job.drop(building)
                again.require_same()
                if paused:
                    _leave(file, before_run)
            if not paused:
                with job.phase(Phase.RELEASE):
                    _leave(file, before_run)
                    unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
    return Restored(domid, checked.contents, paused)


def _leave(file: BinaryIO, before_run: Callable[[], None]) -> None:
    """Do what comes before the guest may run."""
    before_run()
    after_save.note_restored(file)


def unpause(host: Host, domain: Domain, job: Operation) -> None:
    """Let a domain run that was built: it is the guest from then on."""
    domid = domain.domid
    steps.cont(host, domid)  # as libxl does: a confined QEMU waits for it
    meaning = f"domain {domid} may have run already: it is the guest now"
    act = partial(host.hypervisor.unpause, domid)
    job.commit(act, steps.Commit(steps.HasRun(domid, domain.uuid), meaning))
    require_running(host, domain)
