"""A domain of the in-memory host: its pages, its devices and its state."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.doubles.in_memory.save_files import config
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.page_data import PAGE_SIZE
from xenqemu.host.domain import RunState

SPECIAL = (0xFEFFC, 0xFEFFF)
"""The special pages that `made.PARAMS` names."""


@dataclass
class Guest:
    """A domain: `tick` counts on while it runs, in its memory and in its device state.

    `asked` is whether a suspend request waits for it, `must_answer` whether it is asked to suspend,
    `logged` whether a log of its dirty pages is kept, `can_log_dirty` whether there can be one.
    `moments` is whether its memory can be saved as of one moment, `enabled` whether that is
    prepared, and while something of it is `unread` the guest waits.
    """

    config: DomainConfig
    pages: dict[int, bytes]
    tick: int = 0
    suspended: bool = False
    paused: bool = False
    devices_run: bool = True
    crashed: bool = False
    down: bool = False
    obeys: bool = True
    must_answer: bool = False
    cpu_seconds: float = 0.0
    asked: bool = False
    logged: bool = False
    can_log_dirty: bool = True
    moments: bool = False
    enabled: bool = False
    unread: bool = False

    @property
    def runs(self) -> bool:
        stopped = self.suspended or self.paused or self.crashed or self.down or self.unread
        return self.devices_run and not stopped

    @property
    def run_state(self) -> RunState:
        if self.crashed:
            return RunState.CRASHED
        if self.down:
            return RunState.SHUTDOWN
        if self.suspended:
            return RunState.SUSPENDED
        return RunState.PAUSED if self.paused else RunState.RUNNING

    @classmethod
    def running(cls, tick: int = 41, what: DomainConfig | None = None) -> Guest:
        pages = {pfn: bytes([pfn & 0xFF]) * PAGE_SIZE for pfn in (*range(8), *SPECIAL)}
        guest = cls(what or config(), pages, tick - 1)
        guest.count()
        return guest

    def count(self) -> None:
        """Run for a tick."""
        self.tick += 1
        self.pages[3] = struct.pack("<Q", self.tick).ljust(PAGE_SIZE, b"\0")
