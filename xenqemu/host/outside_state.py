"""What of a guest is in no save file: devices of the host, and what other programs keep for it.

A save file has the guest's memory and the state that Xen and QEMU have of it.  The state of a
physical device stays in the device, that of a vTPM with the domain that emulates it, and UEFI
variables in a file of QEMU's where the firmware has one (without, they are in memory).  A guest
that is restored without that finds devices that are not as it left them, keys that are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.host_resources import Resource, host_resources
from xenqemu.host.allowed_resources import refusals
from xenqemu.host.findings import Finding
from xenqemu.host.trust import Trust


class _Outside(NamedTuple):
    """Something outside of the save file: the key of its finding, what it is, where it is named."""

    what: str
    name: str
    key: str
    value: str = ".*"


_ARGUMENTS = r"b_info\.extra.*"
"""Words of QEMU's command line."""

_WRITABLE = r"(?!.*\breadonly(=on)?(,|$))"
"""Is before a drive that is written: the firmware's own code is read alone."""

_KINDS = (
    _Outside("passthrough", "a PCI device of the host", r"pcidevs"),
    _Outside("passthrough", "a device of the host", r"dtdevs\.path|b_info\.(ioports|irqs|iomem)"),
    _Outside("passthrough", "the graphics card of the host", r"b_info\.type\.hvm\.gfx_passthru"),
    _Outside("passthrough", "a USB device of the host", r"usbdevs"),
    _Outside(
        "passthrough",
        "a USB device of the host",
        r"b_info\.type\.hvm\.usbdevice(_list)?",
        r"host:.*",
    ),
    _Outside("vgpu", "a vGPU", r"(.*\.)?(vgpu|vgt|gvt|mdev)[^.]*"),
    _Outside("vgpu", "a vGPU", _ARGUMENTS, r"vfio-.*\bmdev\b.*"),
    _Outside("passthrough", "a device of the host", _ARGUMENTS, r"(vfio-|xen-pci-passthrough).*"),
    _Outside("vtpm", "a vTPM", _ARGUMENTS, r"tpm-(tis|crb)\b.*"),
    _Outside("uefi", "UEFI variables in a file", r"(.*\.)?nvram[^.]*"),
    _Outside(
        "uefi", "UEFI variables in a file", _ARGUMENTS, rf"-pflash|{_WRITABLE}(.*,)?if=pflash.*"
    ),
)


def outside_state(trust: Trust, config: DomainConfig) -> Iterator[Finding]:
    """Yield what a guest has whose state no save file holds.

    It refuses a save; but where [trust] allows a device, whoever did so answers for its state.
    Guests of the lab have none: their configs may name such devices, and QEMU is not told of them.
    """
    if config.extra.get("host") == "lab":
        return
    refused = {refusal.resource for refusal in refusals(trust, config)}
    for resource in host_resources(config):
        kind = _kind(resource)
        if kind is not None:
            text = f"{config.name} has {kind.name} ({resource}), whose state no save file holds"
            if resource in refused:
                yield Finding.refusal(kind.what, _refused(text, "detach it first"))
            else:
                yield Finding.warning(kind.what, text, "[trust] in xenqemu.conf allows it")
    found = config.tree.get("vtpms")
    if found:
        text = f"{config.name} has a vTPM, whose state another domain keeps, and no save file"
        yield Finding.refusal("vtpm", _refused(text, "detach it first (xl vtpm-detach)"))


def _kind(resource: Resource) -> _Outside | None:
    return next((kind for kind in _KINDS if _is(kind, resource)), None)


def _is(kind: _Outside, resource: Resource) -> bool:
    return bool(
        re.fullmatch(kind.key, resource.key, re.DOTALL)
        and re.fullmatch(kind.value, resource.value, re.DOTALL)
    )


def _refused(text: str, hint: str) -> HostError:
    error = HostError(text)
    error.add_note(hint)
    return error
