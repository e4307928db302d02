"""Bring a guest back from a save record.

Everything that can be checked is checked before anything is built.  The guest lands paused; from
the moment it is let run it is the guest, and the record is only its past.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import Unsupported, UsageError
from xenqemu.formats.detect import Kind
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.source import Source
from xenqemu.host.domain import BuildOptions, Host, Needs, require_running, state
from xenqemu.host.hypervisor import RunState
from xenqemu.operations.devices import cont
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import Journal
from xenqemu.operations.outline import Outline
from xenqemu.operations.verify import is_lab, verify


@dataclass(frozen=True)
class Restored:
    """The new domain's id, and what its record held."""

    domid: int
    record: Outline


def restore(
    host: Host,
    path: Path,
    *,
    paused: bool = False,
    config: DomainConfig | None = None,
    monitor: bool = True,
    observe: Observer = unobserved,
) -> Restored:
    """Make a domain of the record at `path`, and let it run unless `paused`.

    `config` takes the place of the record's own; `monitor` leaves a process behind that sees to
    the guest's reboots, where the host has such.

    The record is left as it is.  Errors before anything was built are raised as they are;
    `RolledBack` means that nothing is left of the attempt, `PastReturn` that the new domain may
    have run already.
    """
    with _opened(path) as file, Journal("restore", str(path), observe) as job:
        with job.phase(Phase.CHECK):
            record = verify(file)
            config = _replacement(record, config)
            host.admit(_needs(record, config))
        with job.phase(Phase.BUILD):
            file.seek(0)
            options = BuildOptions(record.size, config, monitor)
            domid = host.build(Source(file), job.progress, options)
            job.undo(f"destroy domain {domid}", lambda: host.destroy(domid))
        if not paused:
            with job.phase(Phase.RELEASE):
                cont(host, domid)  # as libxl does: a confined QEMU waits for it
                meaning = f"domain {domid} may have run already: it is the guest now"
                unpause = partial(host.hypervisor.unpause, domid)
                job.commit_by(unpause, lambda: _may_have_run(host, domid), meaning)
                require_running(host, domid)
    return Restored(domid, record)


def _may_have_run(host: Host, domid: int) -> bool:
    """Tell whether a domain that was to be let run cannot be said to stand still."""
    now = state(host, domid)
    still = (RunState.PAUSED, RunState.SUSPENDED)
    return bool(now.trouble) or now.info is None or now.info.run_state not in still


def _opened(path: Path) -> BinaryIO:
    """Open a record; it is read twice, so that a pipe will not do."""
    if not path.is_fifo():  # to open one would wait for its writer
        file = path.open("rb")
        if file.seekable():
            return file
        file.close()
    raise UsageError(f"{path} cannot be read twice: copy it to a file first")


def _replacement(record: Outline, config: DomainConfig | None) -> DomainConfig | None:
    """Return the config given in place of the record's, with what xenqemu keeps in that."""
    if config is None or record.config is None:
        return config
    return config.with_extra(record.config.extra)


def _needs(record: Outline, config: DomainConfig | None) -> Needs:
    """Return what a record of a whole guest needs, with `config` in place of its own if given."""
    if record.kind is not Kind.XL:
        raise Unsupported("stream", 0, "an xl save file", f"a bare {record.kind.name} stream")
    if record.checkpoints:
        raise Unsupported("libxl stream", 0, "an END", f"{record.checkpoints} checkpoints")
    config = config or record.config
    if config is None:
        raise Unsupported("xl header", 48, "a config in JSON", "none")
    version = record.image.version if record.image else 0
    return Needs(config, version, record.context, is_lab(record))
