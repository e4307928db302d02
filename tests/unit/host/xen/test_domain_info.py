"""xc_domaininfo_t: its layout, and what its flags mean."""

from __future__ import annotations

import struct

import pytest

from xenqemu.host.domain import DomainInfo, RunState
from xenqemu.host.xen.domain_info import LAYOUT, XenDomain

UUID = "1c45a064-edb5-48a8-a742-b09c9432aa1c"
# As Xen 4.17 gave it of a guest of 128 MiB: 112 bytes, zeros for what is not read.
SAMPLE = (
    struct.pack("<HHI", 5, 0xFFFF, 0x1 << 8 | 1 << 1)
    + struct.pack("<7Q", 32752, 33024, 0, 3, 4, 0x12345, 999)
    + struct.pack("<III", 1, 0, 0)
    + bytes.fromhex(UUID.replace("-", ""))
    + bytes(20)
)


def test_what_xen_says_of_a_domain_is_read_from_its_bytes() -> None:
    assert LAYOUT.size == 92
    assert len(SAMPLE) == 112
    domain = XenDomain.unpack(SAMPLE)
    assert domain == XenDomain(5, 0x102, 32752, 4, 1, UUID, 999)
    assert domain.info == DomainInfo(5, UUID, RunState.RUNNING, 32752 * 4096, 1)
    assert domain.info.cpu_seconds == 999e-9


DYING, HVM, SHUTDOWN, PAUSED, BLOCKED, RUNNING = (1 << bit for bit in range(6))


@pytest.mark.parametrize(
    ("flags", "state", "words"),
    [
        (0, RunState.RUNNING, "running"),
        (RUNNING, RunState.RUNNING, "running"),
        (BLOCKED | HVM, RunState.RUNNING, "running"),
        (PAUSED, RunState.PAUSED, "paused"),
        (SHUTDOWN | 0 << 16, RunState.SHUTDOWN, "shut down with reason 0 (poweroff)"),
        (SHUTDOWN | 1 << 16, RunState.SHUTDOWN, "shut down with reason 1 (reboot)"),
        (SHUTDOWN | 2 << 16, RunState.SUSPENDED, "shut down with reason 2 (suspend)"),
        (SHUTDOWN | PAUSED | 2 << 16, RunState.SUSPENDED, "shut down with reason 2 (suspend)"),
        (SHUTDOWN | 3 << 16, RunState.CRASHED, "shut down with reason 3 (crash)"),
        (SHUTDOWN | 4 << 16, RunState.SHUTDOWN, "shut down with reason 4 (watchdog)"),
        (SHUTDOWN | 5 << 16, RunState.SHUTDOWN, "shut down with reason 5 (soft reset)"),
        (SHUTDOWN | 255 << 16, RunState.SHUTDOWN, "shut down with reason 255 (unknown)"),
        (DYING | SHUTDOWN | 2 << 16, RunState.DYING, "dying"),
        (2 << 16, RunState.RUNNING, "running"),
    ],
)
def test_run_state(flags: int, state: RunState, words: str) -> None:
    domain = XenDomain(1, flags, 0, 0, 1, UUID, 0)
    assert domain.run_state is state
    assert str(domain) == words
    assert domain.hvm == bool(flags & HVM)
    assert domain.paused == bool(flags & PAUSED)
