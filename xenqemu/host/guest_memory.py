"""What is required of a guest's memory: to be written and read as one whole libxc image.

The seam is libxl's own: it hands the stream to libxc, which writes or reads one image and hands the
stream back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from xenqemu.formats.stream.sink import Sink
    from xenqemu.formats.stream.source import Source
    from xenqemu.host.precopy import Iteration
    from xenqemu.host.precopy_options import PrecopyOptions

Progress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all) of guest memory during a long act."""


@dataclass(frozen=True)
class Live:
    """How a guest is saved while it runs.

    `suspend` is called once, from within the save, when it is time: it suspends the guest and
    saves its other state.  `report` is called after each iteration; the last one is that of the
    suspended guest.
    """

    precopy: PrecopyOptions
    suspend: Callable[[], None]
    report: Callable[[Iteration], None]


class GuestMemory(Protocol):
    """The memory of one domain, as a whole libxc image.

    For `save` the domain is suspended, for `save_live` it runs, for `load` it was not started yet.
    """

    def space(self, file: int | None = None, /) -> int:
        """Return how many bytes the image has at most, as far as can be told now.

        With a `file`, those that an aligned image takes there: pages may be shared with it.
        """

    def counted_space(self, progress: Progress) -> int:
        """Return the same after a look at each page: those of zeros may take no space.

        That takes about as long as to read all of the memory; the domain may run meanwhile.
        """

    def size_before_pages(self) -> int | None:
        """Return the bytes of an image before its pages, None where these cannot be aligned."""

    def save(self, out: Sink, progress: Progress) -> None:
        """Write the image, from its header to its END record; `out` tells whether it is aligned."""

    def can_log_dirty(self) -> bool:
        """Return whether this host can log which pages change, as `save_live` needs it."""

    def save_live(self, out: Sink, progress: Progress, live: Live) -> None:
        """Write the image, in which later pages take the place of earlier ones.

        `progress` begins anew with each iteration.  Raises `NotConverged` where the options say so;
        whatever is raised, the dirty log is off, and `live.suspend` may have been called.
        """

    def load(self, source: Source, progress: Progress) -> None:
        """Read the image, from its header to its END record, into the domain."""


@dataclass(frozen=True)
class Moment:
    """What of a guest's one moment is not in its image; `downtime` is in seconds."""

    device_state: bytes
    downtime: float


class MomentMemory(Protocol):
    """The memory of a running guest as of one moment, written by its own device model's help.

    `bandwidth` is what `enable` changes of the device model, to be given back.
    """

    @property
    def bandwidth(self) -> int:
        """How many bytes per second the device model sends of itself."""

    def obstacle(self) -> str:
        """Return why it cannot be written, as far as can be told before `enable`; "" if it can."""

    def enable(self) -> None:
        """Prepare the device model; raises `DeviceModelError` if it cannot do this."""

    def save(self, out: Sink, progress: Progress, begins: Callable[[int], None]) -> Moment:
        """Write the image; the guest runs on by itself, after its downtime.

        `begins` is called before anything begins, with the number of a pipe that has to be read to
        its end from then on (`Hypervisor.read_rest`), or the guest would wait for ever.
        """
