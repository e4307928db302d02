"""Whether a Xen host can take a guest, asked before anything is built.

libxl finds most of this only while it builds, and says it in words of its own; what would fail
there for certain is refused here by name.
"""

from __future__ import annotations

import os
from pathlib import Path

from xenqemu.errors import HostError, Unsupported
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.hvm import NAMES
from xenqemu.host.domain import Needs
from xenqemu.host.xen.releases import Version, dotted, release

LONGER = {"LAPIC": ((4, 18), 24)}
"""HVM_CONTEXT records that grew: the first Xen that may take more, and the bytes before.

An older Xen refuses a longer record, a newer one fills a shorter one up with zeros.
"""


def check(needs: Needs, version: Version) -> None:
    """Raise `HostError` or `Unsupported` with the reason why Xen `version` cannot take it."""
    if needs.lab:
        raise HostError(
            f"{needs.config.name} is a guest of the lab: its CPU state is QEMU's, and Xen has none"
        )
    newest = release(version).image
    if needs.image_version > newest:
        expected = f"version {newest} at most, for Xen {dotted(version)}"
        raise Unsupported("libxc image header", 0, expected, str(needs.image_version))
    _check_context(needs, version)
    _check_disks(needs.config)


def _check_context(needs: Needs, version: Version) -> None:
    for found in needs.context.records if needs.context else ():
        since, most = LONGER.get(NAMES.get(found.typecode, ""), ((0, 0), len(found.data)))
        if version < since and len(found.data) > most:
            name = NAMES[found.typecode]
            raise Unsupported(
                f"HVM_CONTEXT {name}",
                0,
                f"at most {most} bytes, for Xen {dotted(version)}",
                f"{len(found.data)}, as a newer Xen writes it",
            )


def _check_disks(config: DomainConfig) -> None:
    for disk in config.disks:
        ours = disk.backend in (None, "0", "Domain-0") and disk.script is None
        if ours and disk.target and not os.access(Path("/dev") / disk.target, os.R_OK):
            raise HostError(f"{config.name} needs {disk.target} as {disk.vdev}: it cannot be read")
