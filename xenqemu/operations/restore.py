"""Bring a guest back from a save record.

Everything that can be checked is checked before anything is built.  The guest lands paused; from
the moment it is let run it is the guest, and the record is only its past.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import Unsupported, UsageError
from xenqemu.formats.detect import Kind
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.source import Source
from xenqemu.host.domain import Host, require_running
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import Journal
from xenqemu.operations.outline import Outline
from xenqemu.operations.verify import verify


@dataclass(frozen=True)
class Restored:
    """The new domain's id, and what its record held."""

    domid: int
    record: Outline


def restore(
    host: Host, path: Path, *, paused: bool = False, observe: Observer = unobserved
) -> Restored:
    """Make a domain of the record at `path`, and let it run unless `paused`.

    The record is left as it is.  Errors before anything was built are raised as they are;
    `RolledBack` means that nothing is left of the attempt, `PastReturn` that the new domain may
    have run already.
    """
    with _opened(path) as file, Journal("restore", str(path), observe) as job:
        with job.phase(Phase.CHECK):
            record = verify(file)
            host.admit(_config(record))
        with job.phase(Phase.BUILD):
            file.seek(0)
            domid = host.build(Source(file), job.progress)
        job.undo(f"destroy domain {domid}", lambda: host.destroy(domid))
        if not paused:
            with job.phase(Phase.RELEASE):
                job.commit(f"domain {domid} may have run already: it is the guest now")
                host.hypervisor.unpause(domid)
                require_running(host, domid)
    return Restored(domid, record)


def _opened(path: Path) -> BinaryIO:
    """Open a record; it is read twice, so that a pipe will not do."""
    file = path.open("rb")
    if not file.seekable():
        file.close()
        raise UsageError(f"{path} cannot be read twice: copy it to a file first")
    return file


def _config(record: Outline) -> DomainConfig:
    """Return the config of a whole guest."""
    if record.kind is not Kind.XL:
        raise Unsupported("stream", 0, "an xl save file", f"a bare {record.kind.name} stream")
    if record.checkpoints:
        raise Unsupported("libxl stream", 0, "an END", f"{record.checkpoints} checkpoints")
    if record.config is None:
        raise Unsupported("xl header", 48, "a config in JSON", "none")
    return record.config
