"""The run states of the machine and what goes with them (QEMU's runstate.c, block.c)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class QemuRunState(Enum):
    """QEMU's names for the states that matter here."""

    PRELAUNCH = "prelaunch"
    INMIGRATE = "inmigrate"
    RUNNING = "running"
    PAUSED = "paused"
    SAVE_VM = "save-vm"


class Died(Exception):
    """The process ended, as by abort() or SIGSEGV; nothing answers any more."""


class ModelMachine:
    """A machine with or without disks; `emit` is called with the name of each event."""

    def __init__(self, state: QemuRunState, *, disks: bool, emit: Callable[[str], None]) -> None:
        self.state = state
        self.autostart = False
        self._disks = disks
        self._given_away = False
        self._emit = emit

    @property
    def running(self) -> bool:
        """Whether the vcpus run."""
        return self.state is QemuRunState.RUNNING

    def vm_stop(self, state: QemuRunState) -> None:
        """Change from running to `state`; nothing if it does not run."""
        if self.running:
            self.state = state
            self._emit("STOP")

    def vm_start(self) -> None:
        """Run; nothing if it runs already."""
        if not self.running:
            self.state = QemuRunState.RUNNING
            self._emit("RESUME")

    def stop(self) -> None:
        """The command: while a state comes in, only remember not to start after it."""
        if self.state is QemuRunState.INMIGRATE:
            self.autostart = False
        else:
            self.vm_stop(QemuRunState.PAUSED)

    def cont(self) -> None:
        """The command: take the disk images back and start; or start once a state has come in."""
        if self.state is QemuRunState.INMIGRATE:
            self.autostart = True
            return
        self._given_away = False
        self.vm_start()

    def loaded(self) -> None:
        """End the load of a state: the machine is paused, or runs with `autostart`."""
        self.state = QemuRunState.PAUSED
        if self.autostart:
            self.vm_start()

    def inactivate(self) -> None:
        """Leave the disk images to another QEMU; twice is a failed assertion in block.c."""
        if self._given_away and self._disks:
            raise Died("bdrv_inactivate_recurse: Assertion `!(bs->open_flags & BDRV_O_INACTIVE)'")
        self._given_away = True
