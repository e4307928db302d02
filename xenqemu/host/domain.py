"""A domain: which one is meant, and what its hypervisor says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True)
class Domain:
    """Which domain is meant: what does not change during an operation.

    `type` is "hvm", "pvh" or "pv", "" where nobody tells.  Whether it runs, and whether it is there
    at all, is asked anew wherever it matters.
    """

    domid: int
    uuid: str
    name: str
    type: str

    def matches(self, info: DomainInfo) -> bool:
        """Return whether a domain of this id is still this one."""
        return info.uuid.lower() == self.uuid.lower()


class RunState(Enum):
    """What a hypervisor says of a domain's vcpus."""

    RUNNING = "running"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"
    DYING = "dying"


@dataclass(frozen=True)
class DomainInfo:
    """A domain as its hypervisor sees it; `memory` is in bytes.

    `cpu_seconds` is for how many seconds its vcpus have run, all together.
    """

    domid: int
    uuid: str
    run_state: RunState
    memory: int
    vcpus: int
    cpu_seconds: float = field(default=0.0, compare=False)
