"""xc_domaininfo_t, what Xen says of a domain (struct xen_domctl_getdomaininfo of domctl.h).

::

     0  u16 domid   u16 pad   u32 flags
     8  u64 tot_pages   16 u64 max_pages   24 u64 outstanding_pages
    32  u64 shr_pages   40 u64 paged_pages   48 u64 shared_info_frame   56 u64 cpu_time
    64  u32 nr_online_vcpus   u32 max_vcpu_id   u32 ssidref
    76  u8[16] handle, the uuid
    92  u32 cpupool … and more, which grew from 4.13 to 4.17; what is above did not change

    flags   bit 0 dying  1 hvm  2 shutdown  3 paused  4 blocked  5 running  6 debugged  7 xenstore
            8 hap        16-23 reason of shutdown
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from xenqemu.formats.stream.libxc_records import PAGE_SIZE
from xenqemu.host.domain import DomainInfo, RunState

LAYOUT = struct.Struct("<HHI7QIII16s")

DYING, HVM, SHUTDOWN, PAUSED = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REASON_SHIFT, REASON_MASK = 16, 0xFF
SUSPEND = 2
CRASH = 3

REASONS = ("poweroff", "reboot", "suspend", "crash", "watchdog", "soft reset")


@dataclass(frozen=True)
class XenDomain:
    """A domain as Xen describes it: `pages` and `paged` (out) are counts, `flags` as drawn above.

    `cpu_time` is in nanoseconds.
    """

    domid: int
    flags: int
    pages: int
    paged: int
    vcpus: int
    uuid: str
    cpu_time: int

    @classmethod
    def unpack(cls, data: bytes) -> XenDomain:
        """Return what the structure says."""
        domid, _pad, flags, pages, *counts, vcpus, _id, _ssid, handle = LAYOUT.unpack_from(data)
        _max, _outstanding, _shared, paged, _frame, cpu_time = counts
        return cls(domid, flags, pages, paged, vcpus, str(UUID(bytes=handle)), cpu_time)

    @property
    def hvm(self) -> bool:
        """Whether the guest is HVM or PVH, not PV."""
        return bool(self.flags & HVM)

    @property
    def paused(self) -> bool:
        """Whether a toolstack has paused the vcpus, whatever else the run state is."""
        return bool(self.flags & PAUSED)

    @property
    def reason(self) -> int | None:
        """Why the guest has shut down, as SCHEDOP_shutdown has it; None if it has not."""
        return self.flags >> REASON_SHIFT & REASON_MASK if self.flags & SHUTDOWN else None

    @property
    def run_state(self) -> RunState:
        """The state that says most: a suspended guest may be paused too."""
        if self.flags & DYING:
            return RunState.DYING
        if self.reason is not None:
            ends = {SUSPEND: RunState.SUSPENDED, CRASH: RunState.CRASHED}
            return ends.get(self.reason, RunState.SHUTDOWN)
        return RunState.PAUSED if self.paused else RunState.RUNNING

    @property
    def info(self) -> DomainInfo:
        """The same, independent of Xen."""
        memory = self.pages * PAGE_SIZE
        cpu_seconds = self.cpu_time / 1e9
        return DomainInfo(self.domid, self.uuid, self.run_state, memory, self.vcpus, cpu_seconds)

    def __str__(self) -> str:
        """The state, for people."""
        if self.reason is None or self.flags & DYING:
            return self.run_state.value
        known = self.reason < len(REASONS)
        name = REASONS[self.reason] if known else "unknown"
        return f"shut down with reason {self.reason} ({name})"
