"""Whether the lab can take a guest, asked before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

from xenqemu.errors import HostError, Unsupported, XenqemuError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.findings import Check, findings, require
from xenqemu.host.protocol import Needs
from xenqemu.host.qemu import emulator
from xenqemu.lab import disks, taps
from xenqemu.lab.command_line import QEMU, Hardware, Place, command, ram_kb

MEMORY_UNIT = 8
"""KiB; QEMU rounds RAM up to that, and then finds the file of it too small."""

NOWHERE = Place(0, Path(), Path())
"""The place of a guest that is only checked."""


def checks(needs: Needs, guests: Path, ram: Path, *, quick: bool) -> tuple[Check, ...]:
    """Return the checks of a guest: `guests` are those of this host, `ram` has the RAM files."""
    config = needs.config
    first = (("guest", lambda: check(config)),)
    if config.extra.get("host") != "lab" or config.type != "hvm":
        return first  # what else it needs is no matter of this host
    others: tuple[Check, ...] = (
        ("disks", lambda: check_files(config)),
        *(("bridges", partial(taps.check, config, nic)) for nic in config.nics),
        ("name", lambda: taken(config, guests)),
    )
    slow: tuple[Check, ...] = (
        ("memory", lambda: check_free_space(needs, ram)),
        ("devices", lambda: check_devices(needs)),
    )
    return (*first, *others, *(() if quick else slow))


def check(config: DomainConfig) -> Iterator[XenqemuError]:
    """Yield the reasons why a guest of this configuration cannot run here at all."""
    if config.extra.get("host") != "lab":
        yield HostError(f"{config.name} is a guest of Xen: the lab cannot run it")
        return
    if config.type != "hvm":
        yield Unsupported("domain config", 0, "a guest of type hvm", config.type)
        return
    if not ram_kb(config) or ram_kb(config) % MEMORY_UNIT:
        expected = f"memory in multiples of {MEMORY_UNIT} KiB"
        yield Unsupported("domain config", 0, expected, f"{ram_kb(config)} KiB")
    hardware = Hardware.of(config)
    command(config, hardware, NOWHERE, incoming=False)  # raises for what QEMU has no option for
    if hardware.machine not in emulator.machines(QEMU):
        yield HostError(f"{QEMU} here has no machine {hardware.machine}, which {config.name} needs")


def check_files(config: DomainConfig) -> Iterator[HostError]:
    """Yield each file of the guest that cannot be read here."""
    for path in _files(config):
        if not os.access(path, os.R_OK):
            yield HostError(f"{config.name} needs {path}, which cannot be read")


def check_devices(needs: Needs) -> Iterator[HostError]:
    """Yield what QEMU lacks of the guest's devices, and of their state."""
    known, config = emulator.devices(QEMU), needs.config
    words = command(config, Hardware.of(config), NOWHERE, incoming=False)
    for option, value in pairwise(words):
        name = value.partition(",")[0]
        if option == "-device" and name not in known:
            yield HostError(f"{QEMU} here has no device {name}, which {config.name} needs")
    yield from emulator.unknown_states(QEMU, config.name, needs.devices)


def check_free_space(needs: Needs, folder: Path) -> None:
    """Raise `HostError` if the guest's memory does not fit into the folder of RAM files.

    Zeros take no space there, as far as they are known.
    """
    config = needs.config
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    memory = ram_kb(config) << 10
    needed = memory if needs.data is None else min(memory, needs.data)
    if needed > free:
        raise HostError(
            f"{config.name} needs {needed >> 20} MiB: {folder} has {free >> 20} MiB free"
        )


def taken(config: DomainConfig, guests: Path, itself: int = 0) -> Iterator[HostError]:
    """Yield each other domain, but `itself`, that has the same name, uuid or a disk."""
    others = [(domid, other) for domid, other in configs(guests) if domid != str(itself)]
    for domid, other in others:
        if config.name == other.name:
            yield HostError(f"domain {domid} is named {config.name} already")
        elif config.uuid.lower() == other.uuid.lower():
            yield HostError(f"domain {domid} ({other.name}) has uuid {config.uuid}")
    yield from disks.taken(config, others)


def require_free(config: DomainConfig, guests: Path, itself: int = 0) -> None:
    """Raise `HostError` if another domain, but `itself`, has the same name, uuid or a disk."""
    check = ("name", lambda: taken(config, guests, itself))
    require(findings([check]), f"{config.name} cannot be made here")


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
