"""What xenqemu asks of a hypervisor, whichever it is.

Two implementations are real: Xen, and plain QEMU with its RAM in a file.  The seam for memory is
libxl's own: it hands the stream to libxc, which writes or reads one whole image and hands the
stream back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from xenqemu.errors import HostTimeout
from xenqemu.formats.sink import Sink
from xenqemu.formats.source import Source
from xenqemu.host.precopy import Precopy, Round

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) of guest memory while a long act goes on."""


@dataclass(frozen=True)
class Live:
    """How a guest is saved while it runs.

    `freeze` is called once, from within the save, when it is time: it suspends the guest and
    takes what of its state is not memory.  `report` is told of each round when it is over; the
    last one is that of the frozen guest.
    """

    precopy: Precopy
    freeze: Callable[[], None]
    report: Callable[[Round], None]


class RunState(Enum):
    """What a hypervisor says of a domain's vcpus."""

    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    DYING = "dying"


@dataclass(frozen=True)
class DomainInfo:
    """A domain as its hypervisor sees it; `memory` is in bytes.

    `worked` is for how many seconds its vcpus have run, all together.
    """

    domid: int
    uuid: str
    run_state: RunState
    memory: int
    vcpus: int
    worked: float = field(default=0.0, compare=False)


class MaySuspendYet(HostTimeout):
    """The guest was asked to suspend, has not yet, and may do it unasked: `settle` sees to that.

    `withdrawn` says that the request was taken back before the guest took it: that it suspends
    all the same is hardly to be expected.
    """

    def __init__(self, message: str, *, withdrawn: bool = False) -> None:
        super().__init__(message)
        self.withdrawn = withdrawn


class GuestMemory(Protocol):
    """The memory of one domain, as a whole libxc image.

    For `save` the domain is suspended, for `save_live` it runs, for `load` it was not started yet.
    """

    def room(self) -> int:
        """Return how many bytes the image has at most, as far as can be told now."""

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image, from its header to its END record."""

    def loggable(self) -> bool:
        """Return whether it can be noted here which pages change, as `save_live` needs it."""

    def save_live(self, out: Sink, progress: Progress, live: Live) -> None:
        """Write the image, in which later pages take the place of earlier ones.

        `progress` begins anew with each round.  Raises `NotConverged` where the policy says so;
        whatever is raised, changes are no longer noted, and `live.freeze` may have been called.
        """

    def load(self, source: Source, progress: Progress) -> None:
        """Read the image, from its header to its END record, into the domain."""


class Hypervisor(Protocol):
    """The acts on a domain; `resume`, `unpause` and `destroy` may be repeated."""

    def info(self, domid: int) -> DomainInfo | None:
        """Return what is known of the domain, None if there is none of that id."""

    def suspend(self, domid: int) -> None:
        """Stop the guest so that its memory and registers stand still.

        Raises `MaySuspendYet` if the guest was asked, and is not known to have dropped it.
        """

    def settle(self, domid: int) -> None:
        """Take back what is left of a request to suspend, and wait a while for a late guest.

        Returns once it has suspended, or where it cannot do so late; raises `MaySuspendYet` if
        it has not suspended and still may.
        """

    def resume(self, domid: int) -> None:
        """Let a suspended guest go on; nothing if it is not suspended."""

    def pause(self, domid: int) -> None:
        """Hold the vcpus whatever else happens, until `unpause`."""

    def unpause(self, domid: int) -> None:
        """Release the hold."""

    def destroy(self, domid: int) -> None:
        """End the domain at once; nothing if it is gone already."""

    def memory(self, domid: int) -> GuestMemory:
        """Return the domain's memory."""

    def stop_dirty_log(self, domid: int) -> None:
        """Have nobody note which pages of a domain change, whoever was asked to; may be repeated.

        A live save ends so by itself; this is for one that was killed.
        """
