"""A guest that is saved to a file or migrated to another host: what is done to it.

Each act is next to its undo.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.layout import Layout
from xenqemu.formats.stream.pieces import Pieces
from xenqemu.formats.stream.sink import Outlet, Sink
from xenqemu.host.domain import Domain
from xenqemu.host.findings import require
from xenqemu.host.guest_memory import GuestMemory, Live
from xenqemu.host.precopy import Iteration
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.protocol import Host, SuspendPending
from xenqemu.operations.check_guest import Outgoing, look
from xenqemu.operations.events import Phase
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import SaveOptions
from xenqemu.operations.save_file import Image, suspended_image, with_paused, write_save_file
from xenqemu.system.staged_file import Draft

if TYPE_CHECKING:
    from xenqemu.host.qemu.device_model import DeviceModel

Ready = Callable[[bytes | None], None]
"""Called with the device model's state when only memory is left to be written."""

UNKNOWN_CHANGES = "this host cannot tell which of its pages change"
"""Why a guest cannot be written while it runs."""


def no_act() -> None:
    """Do nothing."""


Watch = Callable[[Iteration], None]
"""Called with each iteration of a live save when it has ended."""


def written_config(
    domain: Domain, own: DomainConfig, given: DomainConfig | None, *, keep_domid: bool
) -> DomainConfig:
    """Return the config for a save file: a `given` one takes the place of the domain's own.

    It asks for the same id if `keep_domid`, else for any, as with xl.
    """
    config = own if given is None else given.with_extra(own.extra)
    return with_paused(config, False).with_domid(domain.domid if keep_domid else 0)


@dataclass
class OutgoingGuest:
    """A guest on which the operation `job` is running; it runs, or it is `paused`.

    `layout` is how its pages are to lie, if it is one whose pages are not laid out by libxc.
    """

    host: Host
    domain: Domain
    job: Operation
    layout: Layout = Layout.XL

    def __post_init__(self) -> None:
        self._undos: list[int] = []
        self._device_model: DeviceModel | None = None
        self._device_model_ran = True
        self._stopped = self._resumed = 0.0
        self.paused = False
        self.domid = self.domain.domid
        self.who = (self.domid, self.domain.uuid)

    def may_run(self) -> bool:
        """Return whether it can be written while it runs."""
        return self.memory.can_log_dirty()

    def space_in(self, draft: Draft, *, live: bool) -> int:
        """Return how many bytes its image takes at most of a draft; `live` if it is to run."""
        may_share = self.layout is Layout.ALIGNED and not live
        return self.memory.space(draft.file.fileno() if may_share else None)

    def require_savable(self, outgoing: Outgoing) -> None:
        """Raise `HostError` with all reasons why the guest cannot be saved as it is; note warnings.

        Nothing is touched.  It has to run or, where it is to go to a file, to be paused and not
        needed for its own suspend.
        """
        seen = look(self.host, self.domain, outgoing)
        act = "saved" if outgoing.to_file else "migrated"
        for warning in require(seen.found, f"domain {self.domid} cannot be {act}"):
            self.job.note(str(warning))
        self.paused = seen.paused
        self._device_model_ran = seen.device_model_ran
        self._device_model = seen.device_model

    @cached_property
    def memory(self) -> GuestMemory:
        """Its memory; what of it is mapped stays so until the operation is over."""
        return self.host.hypervisor.memory(self.domid)

    def quiesce(self, *, live: bool) -> bytes | None:
        """Suspend the guest, stop the device model, and return its state if there is one.

        `live` says that another device model takes over the disk images while this one exists.

        The device model is stopped and saved in one session, but not in that of the check, where
        it was asked whether it can be saved, and how.  libxl's socket serves one client: while we
        are in it, xl commands that need this QEMU wait for libxl's lock, and `status` gets no
        greeting in time.  Between the two, space for the save file is reserved or, in a live save,
        gigabytes are written, and the guest has two minutes to suspend.  After this one, memory is
        written.
        """
        self._suspend()
        if self._device_model_ran:
            self._undos.append(self.job.undo(steps.ContinueDeviceModel(*self.who)))
        device_model = self._device_model or self.host.device_model(self.domid)
        if device_model is None:
            return None
        with device_model:
            device_model.stop()
            return device_model.save_state_bytes(live=live)

    def checked_config(self, options: SaveOptions) -> DomainConfig:
        """Return the config for a save file; raise `HostError` if it cannot be saved as asked.

        Nothing is touched.
        """
        own = self.host.config(self.domid)
        config = written_config(self.domain, own, options.config, keep_domid=options.keep_domid)
        self.require_savable(Outgoing(own, config, options.config))
        return with_paused(config, self.paused)

    def require_may_run(self) -> None:
        """Raise `HostError` if it cannot be written while it runs."""
        if not self.may_run():
            raise HostError(f"domain {self.domid} cannot be saved while it runs: {UNKNOWN_CHANGES}")

    def write(
        self,
        out: BinaryIO | Outlet,
        config: DomainConfig,
        *,
        live: bool,
        ready: Ready,
        pieces: Pieces | None = None,
        before_end: Callable[[], None] = no_act,
    ) -> None:
        """Write its save file, after `quiesce`; `pieces` get its digests.

        `before_end` is called before the end of the save file is written.
        """
        with self.job.phase(Phase.QUIESCE):
            device_state = self.quiesce(live=live)
        with self.job.phase(Phase.SAVE):
            ready(device_state)
            image = suspended_image(self.memory, device_state, self.job.progress)
            self.write_image(out, config, image, pieces, before_end)

    def write_running(
        self,
        out: BinaryIO | Outlet,
        config: DomainConfig,
        precopy: PrecopyOptions,
        *,
        live: bool,
        watch: Watch,
        pieces: Pieces | None = None,
        before_end: Callable[[], None] = no_act,
    ) -> None:
        """Write its save file while it runs; `quiesce` it for the last iteration.

        `before_end` is called before the end of the save file is written.
        """
        states: list[bytes | None] = []

        def suspend() -> None:
            with self.job.subphase(Phase.QUIESCE):
                states.append(self.quiesce(live=live))

        def image(sink: Sink) -> bytes | None:
            logging = self.job.undo(steps.StopDirtyLog(*self.who))
            self.memory.save_live(sink, self.job.progress, Live(precopy, suspend, watch))
            self.job.drop(logging)
            return states[0]

        with self.job.phase(Phase.SAVE):
            self.write_image(out, config, image, pieces, before_end)

    def write_image(
        self,
        out: BinaryIO | Outlet,
        config: DomainConfig,
        image: Image,
        pieces: Pieces | None,
        before_end: Callable[[], None] = no_act,
    ) -> None:
        """Write its save file with an image, in the layout that is wanted."""
        aligned = self.layout is Layout.ALIGNED
        before = self.memory.size_before_pages() if aligned else None
        write_save_file(out, config, image, pieces, size_before_pages=before, before_end=before_end)

    def release(self, *, paused: bool) -> None:
        """Resume the guest here; `paused` leaves it paused, as it stays if it was."""
        if paused and not self.paused:
            self.job.undo(steps.Unpause(*self.who))
            self.host.hypervisor.pause(self.domid)
        for undo in reversed(self._undos):
            self.job.perform(undo)
        self._resumed = time.monotonic()

    @property
    def downtime(self) -> float:
        """For how many seconds it was suspended, once it is released."""
        return self._resumed - self._stopped

    def rename(self, old: str, new: str) -> None:
        """Rename the domain."""
        self.job.undo(steps.Rename(*self.who, new, old))
        self.host.rename(self.domid, old, new)

    def _suspend(self) -> None:
        self._stopped = time.monotonic()
        self._undos.append(self.job.undo(steps.Resume(*self.who)))
        late = self.job.undo(steps.WithdrawSuspend(*self.who))
        try:
            self.host.hypervisor.suspend(self.domid)
        except SuspendPending as error:
            if error.withdrawn:
                self.job.undo(steps.WithdrawSuspend(*self.who, withdrawn=True))
                self.job.drop(late)
            raise
        except HostError:
            self.job.drop(late)
            raise
        self.job.drop(late)
