"""Whether the lab can take a guest, asked before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from xenqemu.errors import HostError, Unsupported
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.qemu import emulator
from xenqemu.lab import disks, taps
from xenqemu.lab.command_line import QEMU, Hardware, Place, command, ram_kb

MEMORY_UNIT = 8
"""KiB; QEMU rounds RAM up to that, and then finds the file of it too small."""

NOWHERE = Place(0, Path(), Path())
"""The place of a guest that is only checked."""


def check(config: DomainConfig) -> None:
    """Raise the reason why a guest of this configuration cannot run here at all."""
    if config.extra.get("host") != "lab":
        raise HostError(f"{config.name} is a guest of Xen: the lab cannot run it")
    if config.type != "hvm":
        raise Unsupported("domain config", 0, "a guest of type hvm", config.type)
    if not ram_kb(config) or ram_kb(config) % MEMORY_UNIT:
        expected = f"memory in multiples of {MEMORY_UNIT} KiB"
        raise Unsupported("domain config", 0, expected, f"{ram_kb(config)} KiB")
    hardware = Hardware.of(config)
    command(config, hardware, NOWHERE, incoming=False)  # raises for what QEMU has no option for
    if hardware.machine not in emulator.machines(QEMU):
        raise HostError(f"{QEMU} here has no machine {hardware.machine}, which {config.name} needs")
    for path in _files(config):
        if not os.access(path, os.R_OK):
            raise HostError(f"{config.name} needs {path}, which cannot be read")
    taps.check(config)


def check_devices(config: DomainConfig) -> None:
    """Raise `HostError` if QEMU lacks a device of the guest."""
    known = emulator.devices(QEMU)
    words = command(config, Hardware.of(config), NOWHERE, incoming=False)
    for option, value in pairwise(words):
        name = value.partition(",")[0]
        if option == "-device" and name not in known:
            raise HostError(f"{QEMU} here has no device {name}, which {config.name} needs")


def check_free_space(config: DomainConfig, folder: Path) -> None:
    """Raise `HostError` if the guest's memory does not fit into the folder of RAM files."""
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    needed = ram_kb(config) << 10
    if needed > free:
        raise HostError(
            f"{config.name} needs {needed >> 20} MiB: {folder} has {free >> 20} MiB free"
        )


def check_free(config: DomainConfig, guests: Path, itself: int = 0) -> None:
    """Raise `HostError` if another domain, but `itself`, has the same name, uuid or a disk."""
    others = [(domid, other) for domid, other in configs(guests) if domid != str(itself)]
    for domid, other in others:
        if config.name == other.name:
            raise HostError(f"domain {domid} is named {config.name} already")
        if config.uuid.lower() == other.uuid.lower():
            raise HostError(f"domain {domid} ({other.name}) has uuid {config.uuid}")
    disks.require_free(config, others)


def default_machine() -> str:
    """Return the versioned name of the machine type that "pc" means to this QEMU."""
    for name, alias in emulator.machines(QEMU).items():
        if alias == "pc":
            return name
    raise HostError(f"{QEMU} here has no machine pc")


def configs(guests: Path) -> Iterator[tuple[str, DomainConfig]]:
    """Yield id and configuration of each domain; one may end while we look."""
    for file in sorted(guests.glob("*/config.json")):
        with suppress(FileNotFoundError):
            yield file.parent.name, DomainConfig.parse(file.read_bytes())


def _files(config: DomainConfig) -> Iterator[str]:
    yield from filter(None, (config.kernel, config.ramdisk))
    yield from (disk.target for disk in config.disks if disk.target)
