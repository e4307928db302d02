"""Domains and the operations on them, in words and for a program."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from xenqemu.cli.terminal import MIB, line, rfc3339
from xenqemu.host.domain_state import DomainState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xenqemu.operations.journal.log import About
    from xenqemu.operations.left_suspended import LeftSuspended
    from xenqemu.operations.recover import Recovered


def state_fields(now: DomainState) -> dict[str, object]:
    """Return what all parties say of a domain, for a program."""
    info = now.info
    return {
        "domid": now.domid,
        "name": now.name,
        "uuid": info.uuid if info else None,
        "state": info.run_state.value if info else None,
        "device_model": now.device_model or None,
        "memory": info.memory if info else None,
        "vcpus": info.vcpus if info else None,
        "running": now.running,
        "trouble": list(now.trouble),
    }


def print_domains(found: Iterable[DomainState]) -> None:
    """Print a line for each domain, as `xl list` does, below their headings."""
    line(f"{'NAME':<32} {'ID':>5} {'MEM':>7} {'VCPUS':>5}  STATE")
    for now in found:
        memory = now.info.memory // MIB if now.info else 0
        vcpus = now.info.vcpus if now.info else 0
        state = now.info.run_state.value if now.info else str(now)
        line(f"{now.name:<32} {now.domid:>5} {memory:>7} {vcpus:>5}  {state}")


def about_fields(about: About) -> dict[str, object]:
    """Return what an operation is, and since when, for a program."""
    return {**asdict(about), "since": rfc3339(about.since)}


def recovered_fields(ended: Recovered | LeftSuspended) -> dict[str, object]:
    """Return what was recovered, and how, for a program."""
    about = getattr(ended, "about", None)
    return {**asdict(ended), **({"about": about_fields(about)} if about else {})}
