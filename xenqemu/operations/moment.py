"""A guest that is saved as of one moment, by its device model, and hardly stops for it.

It is for guests that run and go on running: the device model starts the guest again by itself.
Where it cannot be done, the guest is written in iterations instead (`OutgoingGuest.write_running`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import BinaryIO

from xenqemu.errors import DeviceModelError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.host.guest_memory import Moment, MomentMemory
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.events import Phase
from xenqemu.operations.journal import steps
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.outgoing_guest import OutgoingGuest


@dataclass(frozen=True)
class MomentSave:
    """The save of `guest` by its device model, which is prepared for it."""

    guest: OutgoingGuest
    memory: MomentMemory
    stop: int
    """The step that undoes the preparation."""

    def write(
        self, out: BinaryIO | Outlet, config: DomainConfig, pieces: Pieces | None
    ) -> tuple[float, int]:
        """Write the save file; return the downtime in seconds, and the Unix time in ns before."""
        job, who = self.guest.job, self.guest.who
        steps_left: list[int] = []
        moments: list[Moment] = []

        def begins(pipe: int) -> None:
            steps_left.append(job.undo(steps.ReadRest(*who, pipe)))

        def image(sink: Sink) -> bytes:
            moments.append(self.memory.save(sink, job.progress, begins))
            return moments[0].device_state

        with job.phase(Phase.SAVE):
            steps_left.append(job.undo(steps.Resume(*who)))
            before = time.time_ns()
            self.guest.write_image(out, config, image, pieces)
            for step in reversed(steps_left):
                job.drop(step)
            job.perform(self.stop)
        return moments[0].downtime, before


def moment_save(guest: OutgoingGuest, options: SaveOptions) -> MomentSave | None:
    """Prepare the device model for such a save; None, with a note why, where it cannot be done.

    None without a note where the options want something else.
    """
    if not _wanted(guest, options):
        return None
    memory = guest.host.hypervisor.moment_memory(guest.domid)
    if memory is None:
        return None
    why = memory.obstacle()
    if not why:
        stop = guest.job.undo(steps.StopMoment(*guest.who, memory.bandwidth))
        try:
            memory.enable()
        except DeviceModelError as error:
            guest.job.perform(stop)
            why = str(error)
        else:
            return MomentSave(guest, memory, stop)
    guest.job.note(f"the guest is saved in iterations, not as of one moment: {why}")
    return None


def _wanted(guest: OutgoingGuest, options: SaveOptions) -> bool:
    """Return whether a live save is to be of one moment, if it can.

    What a limit of the downtime asks for, it does anyway; other options are of iterations.
    """
    if options.precopy is None or not options.moment:
        return False
    iterations = PrecopyOptions(max_downtime=options.precopy.max_downtime)
    return options.precopy == iterations and options.after is After.CONTINUE and not guest.paused
