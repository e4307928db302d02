"""Domains whose RAM is one file: a save file is unpacked once, and each domain maps it privately.

The file has no name of its own, so that nothing is left of it if this process is killed.  Each
domain has a link to it in its folder: it is there as long as one of them is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.source import Source
from xenqemu.host.guest_memory import GuestMemory, Progress
from xenqemu.lab import ram_folder
from xenqemu.lab.command_line import ram_kb
from xenqemu.lab.domain_builder import BuilderHost, DomainBuilder, memory_in
from xenqemu.operations.save_file import read_save_file

PARALLEL = 4 * (os.cpu_count() or 1)
"""Domains that are built at once: for the most part, each waits for its QEMU."""


@dataclass(frozen=True)
class Unpacked:
    """A save file: its guest's RAM is in the file `ram`, `size_kb` of it."""

    host: BuilderHost
    ram: Path
    size_kb: int
    device_state: bytes | None
    parallel: int = PARALLEL

    def build(self, config: DomainConfig) -> int:
        """Build a paused domain of another config, which has as much memory."""
        if ram_kb(config) != self.size_kb:
            sizes = f"{ram_kb(config)} KiB, not {self.size_kb}"
            raise HostError(f"{config.name} cannot be a clone: it has {sizes}")
        with DomainBuilder(self.host) as builder:
            builder.prepare(config, self.ram)
            builder.start(self.device_state)
            return builder.domid


@contextmanager
def unpacked(host: BuilderHost, save_file: Source, progress: Progress) -> Iterator[Unpacked]:
    """Unpack a save file, so that domains can be built of it in the block."""
    folder = ram_folder.chosen(host.folder) or host.guests
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = f"{folder}: no file without a name can be there ({error.strerror})"
        raise HostError(f"{why}, as clones need it") from error
    try:
        ram = Path(f"/proc/self/fd/{fd}")

        def memory_for(config: DomainConfig) -> GuestMemory:
            os.ftruncate(fd, ram_kb(config) << 10)
            return memory_in(ram, config)

        parts = read_save_file(save_file, memory_for, progress)
        yield Unpacked(host, ram, ram_kb(parts.config), parts.device_state)
    finally:
        os.close(fd)
