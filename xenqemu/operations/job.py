"""The operations of a host and how far each is, as another process sees them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.host.protocol import Host
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.progress_file import Progress, progress_of
from xenqemu.operations.recover import unfinished


@dataclass(frozen=True)
class Job:
    """An operation, running or left unfinished; `progress` is None if it has told of none."""

    about: About
    running: bool
    phase: str
    progress: Progress | None

    @property
    def elapsed(self) -> float:
        """Seconds since it began, up to its last sign of life if it was left unfinished."""
        told = self.progress.at if self.progress else self.about.since
        return max((time.time() if self.running else told) - self.about.since, 0.0)

    @property
    def downtime(self) -> float:
        """Seconds for which the guest has been suspended so far."""
        if not (self.progress and self.progress.suspended):
            return 0.0
        return max(self.about.since + self.elapsed - self.progress.suspended, 0.0)

    @property
    def dirty_rate(self) -> float | None:
        """Bytes per second that a running guest changed during the last iteration, if any."""
        last = self.progress.iteration if self.progress else None
        return last.changed * PAGE_SIZE / max(last.seconds, 1e-3) if last else None


def job(host: Host, *names: str) -> list[Job]:
    """Return the operations, oldest first: all, or those on a domain of any of these names or ids.

    Raises `HostError` for a log that no operation writes.
    """
    found = unfinished(host, *names) if names else Journals(host.journals).found()
    return [Job(each.about, each.running, each.state().phase, progress_of(each)) for each in found]
