"""Whether a Xen host can take a guest, checked before anything is built.

libxl finds most of this only while it builds; what would certainly fail there is refused here, with
the name of what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xenqemu.errors import HostError, Unsupported, XenqemuError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.xl_tables import Listed, domains, numbers
from xenqemu.formats.migration.cpu_features import lacking
from xenqemu.formats.stream.hvm_context import NAMES
from xenqemu.formats.stream.libxc_records import CpuidLeaf
from xenqemu.host.findings import Check, Finding, findings
from xenqemu.host.protocol import Needs
from xenqemu.host.qemu import emulator
from xenqemu.host.xen.releases import Version, dotted, release

LONGER = {"LAPIC": ((4, 18), 24)}
"""HVM_CONTEXT records that grew: the first Xen that may take more, and the bytes before.

An older Xen refuses a longer record, a newer one fills a shorter one up with zeros.
"""

OWN_BACKENDS = (None, "0", "Domain-0")
OWN_BRIDGE_SCRIPTS = (None, "vif-bridge", "/etc/xen/scripts/vif-bridge")
"""For these, `bridge` names a bridge of the kernel."""

LEAST_DOM0 = 128 << 20
"""Bytes that libxl leaves dom0 at least when it frees memory (LIBXL_MIN_DOM0_MEM)."""

QEMUS = (
    "/usr/libexec/xen-qemu-system-i386",
    "/usr/lib/xen-{}/bin/qemu-system-i386",
    "/usr/libexec/xen/bin/qemu-system-i386",
    "/usr/lib/xen/bin/qemu-system-i386",
    "/usr/lib64/xen/bin/qemu-system-i386",
    "/usr/local/libexec/xen/bin/qemu-system-i386",
    "/usr/local/lib/xen/bin/qemu-system-i386",
)
"""Where libxl's own QEMU is: Debian's two, then those of the others."""

LONGEST_NAME = 255 - len("qemu-dm-.log.10")
"""Bytes of a guest's name at most: libxl names QEMU's log by it, and numbers the older ones."""

NETWORK = Path("/sys/class/net")


def check(needs: Needs, version: Version) -> Iterator[XenqemuError | Finding]:
    """Yield the reasons why Xen `version` itself cannot take it, or may not like it."""
    if needs.lab:
        yield HostError(
            f"{needs.config.name} is a guest of the lab: its CPU state is part of QEMU's "
            "device state, which Xen cannot load"
        )
        return
    newest = release(version).image
    if needs.image_version > newest:
        expected = f"version {newest} at most, for Xen {dotted(version)}"
        yield Unsupported("libxc image header", 0, expected, str(needs.image_version))
    yield from _check_context(needs, version)
    if needs.xen and needs.xen > version:
        text = f"{needs.config.name} was saved under Xen {dotted(needs.xen)}, this is an older one"
        yield Finding.warning("xen", f"{text}: Xen {dotted(version)}")


def check_name(name: str) -> None:
    """Raise `HostError` for a name that libxl cannot make QEMU's log of (libxl_create_logfile).

    `xl rename` takes such a name all the same, and so the guest would never come back.
    """
    size = len(name.encode(errors="surrogateescape"))
    if "/" in name:
        why = "it has a slash in it"
    elif size > LONGEST_NAME:
        why = f"it has {size} bytes, and {LONGEST_NAME} are the most"
    else:
        return
    raise HostError(f"libxl cannot restore a guest named {name!r}: {why}; rename it (xl rename)")


def check_disks(config: DomainConfig) -> Iterator[HostError]:
    """Yield each disk of the guest that is not there."""
    for disk in config.disks:
        ours = disk.backend in OWN_BACKENDS and disk.script is None
        if ours and disk.target and not os.access(Path("/dev") / disk.target, os.R_OK):
            yield HostError(f"{config.name} needs {disk.target} as {disk.vdev}: it cannot be read")


def check_bridges(config: DomainConfig) -> Iterator[HostError]:
    """Yield each bridge that a card of the guest is to be on and that is not there."""
    for nic in config.nics:
        ours = nic.backend in OWN_BACKENDS and nic.script in OWN_BRIDGE_SCRIPTS
        if ours and nic.bridge and not (NETWORK / nic.bridge / "bridge").is_dir():
            yield HostError(f"{config.name} needs the bridge {nic.bridge}: there is none")


def check_memory(config: DomainConfig, free: int, dom0: int) -> None:
    """Raise `HostError` if `free` bytes and what dom0, of `dom0` bytes, can give do not suffice.

    A guest that has ballooned down takes no more than its target (libxl_domain_need_memory).
    """
    needed = min(config.target_memkb, config.max_memkb) << 10
    available = free + max(0, dom0 - LEAST_DOM0)
    if needed > available:
        raise HostError(
            f"{config.name} needs {needed >> 20} MiB: {free >> 20} MiB are free, "
            f"and dom0 could give {available - free >> 20} more"
        )


def check_cpu(needs: Needs, most: Iterable[CpuidLeaf]) -> Iterator[HostError]:
    """Yield the CPU features that the guest uses and that are not in `most`, this host's."""
    for gone in lacking(needs.cpuid, most):
        yield HostError(f"{needs.config.name} uses CPU features that this host lacks: CPUID {gone}")


def check_devices(needs: Needs, version: Version) -> Iterator[HostError]:
    """Yield what libxl's QEMU, where we know it, lacks of the guest's devices and their state.

    A program that only the config names is not run.
    """
    config = needs.config
    programs = [program.format(dotted(version)) for program in QEMUS]
    named = config.tree["b_info"].get("device_model") or ""
    there = [each for each in programs if named in ("", each) and os.access(each, os.X_OK)]
    if config.type != "hvm" or not there:
        return
    known = emulator.devices(there[0])
    for name in _devices(config):
        if name not in known:
            yield HostError(f"{there[0]} has no device {name}, which {config.name} needs")
    yield from emulator.unknown_states(there[0], config.name, needs.devices)


def findings_elsewhere(needs: Needs, info: str, listing: str) -> Iterator[Finding]:
    """Yield the reasons why another host cannot take a guest, as far as xl's lists show them."""
    facts, listed = numbers(info), list(domains(listing))
    checks: list[Check] = []
    if {"xen_major", "xen_minor"} <= facts.keys():
        version = facts["xen_major"], facts["xen_minor"]
        checks.append(("xen", lambda: check(needs, version)))
    dom0 = [each.memory for each in listed if each.domid == 0]
    if dom0 and "free_memory" in facts:
        memory = facts["free_memory"] << 20, dom0[0] << 20
        checks.append(("memory", lambda: check_memory(needs.config, *memory)))
    checks.append(("name", lambda: _check_names(needs.config, listed)))
    return findings(checks)


def _check_names(config: DomainConfig, listed: Iterable[Listed]) -> Iterator[HostError]:
    """Yield each domain that has this name or uuid.

    A domain with both may be the guest itself, migrating within its host.
    """
    for name, domid, uuid, _memory in listed:
        if (name == config.name) != (uuid == config.uuid.lower()):
            yield HostError(f"domain {domid} ({name}) has the name or the uuid of {config.name}")


def _check_context(needs: Needs, version: Version) -> Iterator[Unsupported]:
    for typecode, size in needs.context.items():
        since, most = LONGER.get(NAMES.get(typecode, ""), ((0, 0), size))
        if version < since and size > most:
            yield Unsupported(
                f"HVM_CONTEXT {NAMES[typecode]}",
                0,
                f"at most {most} bytes, for Xen {dotted(version)}",
                f"{size}, as a newer Xen writes it",
            )


def _devices(config: DomainConfig) -> Iterator[str]:
    """Yield the devices that libxl's QEMU command line names as the config does (libxl_dm.c)."""
    for nic in config.nics:
        if nic.nictype != "vif" and not (nic.model or "").startswith("virtio"):
            yield nic.model or "rtl8139"
    adapters = {"std": "VGA", "cirrus": "cirrus-vga", "qxl": "qxl-vga"}
    if config.vga in adapters:
        yield adapters[config.vga]
