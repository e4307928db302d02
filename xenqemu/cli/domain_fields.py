"""What all parties say of a domain, for a program."""

from __future__ import annotations

from xenqemu.host.domain_state import DomainState


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
