"""Restore a guest from a save file.

Everything that can be checked is checked before anything is built.  The domain is built paused;
from the moment it is unpaused it is the guest, and the save file is out of date.
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
from xenqemu.operations.inspect import Contents
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import RestoreOptions, seconds_for
from xenqemu.operations.verify import verify
from xenqemu.system.cancellation import check_often


@dataclass(frozen=True)
class Restored:
    """The new domain's id, and what its save file held."""

    domid: int
    contents: Contents


def restore(
    host: Host,
    path: Path,
    options: RestoreOptions = RestoreOptions(),
    *,
    before_run: Callable[[], None] = lambda: None,
    observe: Observer = unobserved,
) -> Restored:
    """Restore a domain from the save file `path`, and unpause it unless it is to stay paused.

    `before_run` is called right before the guest is unpaused; if it raises, the restore is rolled
    back.  The save file is left as it is.

    Errors before anything was built are raised as they are; `RolledBack` means that nothing is left
    of the attempt, `PastReturn` that the new domain may have run already.
    """
    with _opened(path) as file:
        own = _config(file)
        used = own if options.config is None else options.config.with_extra(own.extra)
        about = About("restore", 0, used.name, used.uuid, str(path.absolute()))
        with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
            with job.phase(Phase.CHECK):
                contents = verify(file)
                host.admit(_needs(contents, used))
            with job.phase(Phase.BUILD):
                file.seek(0)
                destroy = steps.DestroyIncomplete(used.name, used.uuid)
                building = job.cleanup(destroy)  # what fails to be built leaves nothing by itself
                given = None if options.config is None else used
                how = BuildOptions(contents.size, given, options.monitor)
                domid = host.build(Source(file, check=check_often), job.progress, how)
                job.undo(destroy)
                job.drop(building)
            if not options.paused:
                with job.phase(Phase.RELEASE):
                    before_run()
                    _unpause(host, Domain(domid, used.uuid, used.name, used.type), job)
    return Restored(domid, contents)


def _unpause(host: Host, domain: Domain, job: Operation) -> None:
    domid = domain.domid
    steps.cont(host, domid)  # as libxl does: a confined QEMU waits for it
    meaning = f"domain {domid} may have run already: it is the guest now"
    act = partial(host.hypervisor.unpause, domid)
    job.commit(act, steps.Commit(steps.HasRun(domid, domain.uuid), meaning))
    require_running(host, domain)


def _opened(path: Path) -> BinaryIO:
    """Open a save file; it is read twice, so it cannot be a pipe."""
    if not path.is_fifo():  # to open one would wait for its writer
        file = path.open("rb")
        if file.seekable():
            return file
        file.close()
    raise UsageError(f"{path} cannot be read twice: copy it to a file first")


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
