"""Bring a guest back from a save record.

Everything that can be checked is checked before anything is built.  The guest lands paused; from
the moment it is let run it is the guest, and the record is only its past.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import Unsupported, UsageError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.detect import Layer, detect
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain_state import require_running
from xenqemu.host.protocol import BuildOptions, Domain, Host, Needs
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.inspect import Outline
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import RestoreOptions, seconds_for
from xenqemu.operations.verify import verify


@dataclass(frozen=True)
class Restored:
    """The new domain's id, and what its record held."""

    domid: int
    record: Outline


def restore(
    host: Host,
    path: Path,
    options: RestoreOptions = RestoreOptions(),
    *,
    before_run: Callable[[], None] = lambda: None,
    observe: Observer = unobserved,
) -> Restored:
    """Make a domain of the record at `path`, and let it run unless it is to be paused.

    `before_run` is called when all is ready and the guest is to be let run; if it raises, the guest
    is not.  The record is left as it is.

    Errors before anything was built are raised as they are; `RolledBack` means that nothing is left
    of the attempt, `PastReturn` that the new domain may have run already.
    """
    with _opened(path) as file:
        own = _config(file)
        used = own if options.config is None else options.config.with_extra(own.extra)
        about = About("restore", 0, used.name, used.uuid, str(path.absolute()))
        with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
            with job.phase(Phase.CHECK):
                record = verify(file)
                host.admit(_needs(record, used))
            with job.phase(Phase.BUILD):
                file.seek(0)
                sweep = steps.Sweep(used.name, used.uuid)
                building = job.leaving(sweep)  # what fails to be built leaves nothing by itself
                given = None if options.config is None else used
                how = BuildOptions(record.size, given, options.monitor)
                domid = host.build(Source(file), job.progress, how)
                job.undo(sweep)
                job.drop(building)
            if not options.paused:
                with job.phase(Phase.RELEASE):
                    before_run()
                    _let_run(host, Domain(domid, used.uuid, used.name, used.type), job)
    return Restored(domid, record)


def _let_run(host: Host, domain: Domain, job: Operation) -> None:
    domid = domain.domid
    steps.cont(host, domid)  # as libxl does: a confined QEMU waits for it
    meaning = f"domain {domid} may have run already: it is the guest now"
    unpause = partial(host.hypervisor.unpause, domid)
    job.commit(unpause, steps.Commit(steps.HasRun(domid, domain.uuid), meaning))
    require_running(host, domain)


def _opened(path: Path) -> BinaryIO:
    """Open a record; it is read twice, so that a pipe will not do."""
    if not path.is_fifo():  # to open one would wait for its writer
        file = path.open("rb")
        if file.seekable():
            return file
        file.close()
    raise UsageError(f"{path} cannot be read twice: copy it to a file first")


def _config(file: BinaryIO) -> DomainConfig:
    """Return the configuration of a record of a whole guest, and go back to its start."""
    source = Source(file)
    kind = detect(source)
    if kind is not Layer.XL:
        raise Unsupported("stream", 0, "an xl save file", f"a bare {kind.name} stream")
    match xl.read(source).value:
        case xl.XlHeader(is_json=True, config=bytes(data)):
            file.seek(0)
            return DomainConfig.parse(data)
    raise Unsupported("xl header", 48, "a config in JSON", "none")


def _needs(record: Outline, config: DomainConfig) -> Needs:
    """Return what a record needs, with `config` in place of its own."""
    if record.checkpoints:
        raise Unsupported("libxl stream", 0, "an END", f"{record.checkpoints} checkpoints")
    version = record.image.version if record.image else 0
    return Needs(config, version, record.context.longest if record.context else {})
