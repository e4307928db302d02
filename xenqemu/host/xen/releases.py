"""What differs between versions of Xen, in one table; all else is the same from 4.13 on.

Each row holds from its version on, up to the next row.  Versions newer than the last row are
taken to be like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from xenqemu.errors import HostError

Version = tuple[int, int]
"""Xen's major and minor."""


class CpuPolicy(Enum):
    """How libxenguest gives the cpu policy of a domain."""

    NONE = "it does not"
    DIRECT = "xc_get_domain_cpu_policy"
    OBJECT = "xc_cpu_policy_get_domain, then xc_cpu_policy_serialise"


class DirtyLogCall(Enum):
    """The function of libxenctrl that has all that concerns the dirty log."""

    SHADOW = "xc_shadow_control"
    LOGDIRTY = "xc_logdirty_control"


STORE_PFN, PAE_ENABLED, IOREQ_PFN, BUFIOREQ_PFN = 1, 4, 5, 6
VIRIDIAN, IDENT_PT, CONSOLE_PFN, ACPI_IOPORTS_LOCATION = 9, 12, 17, 19
PAGING_RING_PFN, MONITOR_RING_PFN, SHARING_RING_PFN = 27, 28, 29
IOREQ_SERVER_PFN, NR_IOREQ_SERVER_PAGES, VM_GENERATION_ID_ADDR = 32, 33, 34
X87_FIP_WIDTH, VM86_TSS_SIZED, MCA_CAP = 36, 37, 38

SAVED_PARAMS = (
    *(STORE_PFN, IOREQ_PFN, BUFIOREQ_PFN),
    *(PAGING_RING_PFN, MONITOR_RING_PFN, SHARING_RING_PFN),
    *(VM86_TSS_SIZED, CONSOLE_PFN, ACPI_IOPORTS_LOCATION, VIRIDIAN, IDENT_PT),
    *(VM_GENERATION_ID_ADDR, IOREQ_SERVER_PFN, NR_IOREQ_SERVER_PAGES),
    *(X87_FIP_WIDTH, MCA_CAP),
)
"""The HVM_PARAM_* that libxc saves, in its order (write_hvm_params)."""


@dataclass(frozen=True)
class Release:
    """A row: version of the libxc image, source of the cpu policy, dirty log, params to save."""

    since: Version
    image: int
    cpu_policy: CpuPolicy
    dirty_log: DirtyLogCall
    params: tuple[int, ...] = SAVED_PARAMS


RELEASES = (
    Release((4, 13), 2, CpuPolicy.NONE, DirtyLogCall.SHADOW, (*SAVED_PARAMS, PAE_ENABLED)),
    Release((4, 14), 3, CpuPolicy.DIRECT, DirtyLogCall.SHADOW),
    Release((4, 16), 3, CpuPolicy.OBJECT, DirtyLogCall.LOGDIRTY),
)


def release(version: Version) -> Release:
    """Return the row of a version; raise `HostError` for one that is too old."""
    rows = [row for row in RELEASES if row.since <= version]
    if not rows:
        oldest, got = dotted(RELEASES[0].since), dotted(version)
        raise HostError(f"this host runs Xen {got}: {oldest} or later is needed")
    return rows[-1]


def dotted(version: Version) -> str:
    """Return the version as the names of libraries have it."""
    return f"{version[0]}.{version[1]}"
