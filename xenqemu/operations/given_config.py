"""Whether a config that is given for a guest fits it: what a restore by it would refuse.

The config says what libxl builds before it loads the guest's memory and QEMU's state.  Memory that
does not fit into the domain, vcpus without a place, and the state of a device that the new QEMU
does not have make the restore fail, when the guest is gone already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig

SLACK = 1 << 20
"""Bytes that libxl lets a domain have above its target (LIBXL_MAXMEM_CONSTANT)."""

LAB = "lab"


def require_fit(given: DomainConfig, own: DomainConfig, memory: int | None = None) -> None:
    """Raise `HostError` with all that a restore by `given` would refuse of a guest made by `own`.

    `memory` is how many bytes the guest has now, None where only `own` tells.
    """
    faults = list(_faults(given, own, memory))
    if faults:
        raise HostError(f"the given config does not fit {own.name}: {'; '.join(faults)}")


def _faults(given: DomainConfig, own: DomainConfig, memory: int | None) -> Iterator[str]:
    if given.type != own.type:
        yield f"its type is {given.type}, the guest's {own.type}"
        return  # nothing else can be compared
    vcpus, has = given.max_vcpus, own.max_vcpus
    if vcpus < has or (vcpus != has and own.type != "pv"):
        yield f"it has {vcpus} vcpus, the guest {has}"
    room, needed = _memory(given, own), _memory(own, own) if memory is None else memory
    if room + SLACK < needed:
        yield f"it has {room >> 20} MiB of memory, the guest {needed >> 20}"
    for device, count in (_devices(own) - _devices(given)).items():
        yield f"it lacks {device}" + (f" ({count} of them)" if count > 1 else "")


def _memory(config: DomainConfig, own: DomainConfig) -> int:
    """Return the bytes that a guest may have: libxl bounds it by the target, the lab has it all."""
    lab = own.extra.get("host") == LAB
    return (config.max_memkb if lab else min(config.target_memkb, config.max_memkb)) << 10


def _devices(config: DomainConfig) -> Counter[str]:
    """Return the emulated devices that have a section of their own in QEMU's state.

    IDE disks have none: their state is that of the controller, which is always there.
    """
    if config.type != "hvm":
        return Counter()
    found = Counter(f"serial port {place}" for place, _ in enumerate(_ports(config)))
    found.update([] if config.vga == "none" else [f"vga={config.vga}"])
    for nic in config.nics:
        if nic.nictype != "vif" and not (nic.model or "").startswith("virtio"):
            found.update([f"a network card {nic.model or 'rtl8139'}"])
    found.update(f"disk {disk.vdev}" for disk in config.disks if disk.vdev.startswith("sd"))
    return found


def _ports(config: DomainConfig) -> list[str]:
    return [port for port in config.serial if port != "none"]
