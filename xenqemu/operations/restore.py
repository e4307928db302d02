"""Restore a guest from a save file.

Everything that can be checked is checked before anything is built, also what the config would have
this host use.  What is built is what was checked: the config of that time, and the bytes, which are
compared.  The domain is built paused; from the moment it is unpaused it is the guest, and the save
file is out of date.  A guest that was paused when it was saved comes back paused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from xenqemu.errors import HostError, Unsupported, UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.detect import Layer, detect
from xenqemu.formats.stream.seal_check import Comparison
from xenqemu.formats.stream.source import Source
from xenqemu.host.allowed_resources import require_allowed
from xenqemu.host.domain_state import require_running
from xenqemu.host.protocol import BuildOptions, Domain, Host, Needs
from xenqemu.host.trust import Trust
from xenqemu.operations import after_save
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.given_config import require_fit
from xenqemu.operations.inspect import Contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import RestoreOptions, key_for, seconds_for
from xenqemu.operations.reading_seals import seal_of
from xenqemu.operations.save_file import was_paused
from xenqemu.operations.verify import checked_contents, verify_structure
from xenqemu.system.cancellation import check_often
from xenqemu.system.read_twice import FirstReading, SecondReading
from xenqemu.system.regular_file import open_regular
from xenqemu.system.writers import require_owned, require_sole_writers, trusted_ids

CFG_INSTEAD = ", and so can a CFG of your own: restore CFG FILE"


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
    with _opened(path, host.trust) as file:
        seal = seal_of(file, key) if options.seal else None
        own = _config(file)
        used = own if options.config is None else options.config.with_extra(own.extra)
        paused = options.paused or was_paused(own)
        about = About("restore", 0, used.name, used.uuid, str(path.absolute()))
        with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
            with job.phase(Phase.CHECK):
                checked = FirstReading(file)
                reading = cast(BinaryIO, checked)
                contents = (
                    verify_structure(reading, key, seal)
                    if options.seal
                    else checked_contents(Source(reading, check=check_often))
                )
                if contents.config != own:
                    raise HostError(f"{path} was changed while it was checked")
                if options.config is None:
                    require_allowed(host.trust, own, CFG_INSTEAD)
                else:
                    require_fit(options.config, own)
                host.admit(_needs(contents, used))
                _check_age(file, used, job, strict=options.strict_disks)
            with job.phase(Phase.BUILD):
                destroy = steps.DestroyIncomplete(used.name, used.uuid)
                building = job.cleanup(destroy)  # what fails to be built leaves nothing by itself
                how = BuildOptions(contents.size, used, options.monitor)
                sealed = Comparison(seal, key) if seal else None
                again = checked.again(sealed.follow if sealed else None)
                domid = host.build(Source(again, check=check_often), job.progress, how)
                job.undo(destroy)
                job.drop(building)
                _require_same(again, path)
                if sealed:
                    sealed.require_complete()
                if paused:
                    _leave(file, before_run)
            if not paused:
                with job.phase(Phase.RELEASE):
                    _leave(file, before_run)
                    _unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
    return Restored(domid, contents, paused)


def _leave(file: BinaryIO, before_run: Callable[[], None]) -> None:
    """Do what comes before the guest may run."""
    before_run()
    after_save.note_restored(file)


def _check_age(file: BinaryIO, config: DomainConfig, job: Operation, *, strict: bool) -> None:
    """Note what happened after the save; if `strict`, raise `HostError` for disks that changed."""
    for image, when in after_save.changed_images(config, file):
        words = f"{image} was changed ({when}) after {config.name} was saved"
        if strict:
            raise HostError(f"{words}, and --strict-disks forbids that")
        job.note(f"{words}: its file systems may break")
    if when := after_save.restored_before(file):
        job.note(f"{file.name} was restored before ({when})")


def _unpause(host: Host, domain: Domain, job: Operation) -> None:
    domid = domain.domid
    steps.cont(host, domid)  # as libxl does: a confined QEMU waits for it
    meaning = f"domain {domid} may have run already: it is the guest now"
    act = partial(host.hypervisor.unpause, domid)
    job.commit(act, steps.Commit(steps.HasRun(domid, domain.uuid), meaning))
    require_running(host, domain)


def _require_same(again: SecondReading, path: Path) -> None:
    try:
        again.require_same()
    except HostError as error:
        raise HostError(f"{path}: {error}") from error


def _opened(path: Path, trust: Trust) -> BinaryIO:
    """Open a save file that only root and the users whom we trust could have written.

    It is read twice, so it cannot be a pipe; to open one would wait for its writer.
    """
    users = trusted_ids(trust.owners)
    file = open_regular(path)
    if file is None:
        raise UsageError(f"{path} cannot be read twice: copy it to a file first")
    try:
        require_owned(path, os.fstat(file.fileno()), users)
        require_sole_writers(path, users)
    except BaseException:
        file.close()
        raise
    return file


def _config(file: BinaryIO) -> DomainConfig:
    """Return the config of a save file, and seek to its start."""
    source = Source(file)
    kind = detect(source)
    if kind is not Layer.XL:
        raise Unsupported("stream", 0, "an xl save file", f"a bare {kind.name} stream")
    match xl.read(source).value:
        case xl.XlHeader(is_json=True, config=bytes(data)):
            file.seek(0)
            return DomainConfig.parse(data)
    raise Unsupported("xl header", 48, "a config in JSON", "none")


def _needs(contents: Contents, config: DomainConfig) -> Needs:
    """Return what a guest needs, with `config` in place of its own."""
    if contents.checkpoints:
        raise Unsupported("libxl stream", 0, "an END", f"{contents.checkpoints} checkpoints")
    version = contents.image.version if contents.image else 0
    return Needs(config, version, contents.context.longest if contents.context else {})
