"""The command that asks all parties about a domain."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from xenqemu.cli import show
from xenqemu.cli.chosen import host_of
from xenqemu.host import domain_state
from xenqemu.operations.recover import unfinished


def status(chosen: argparse.Namespace) -> None:
    """`xenqemu status DOM`."""
    host = host_of(chosen)
    now = domain_state.state(host, domain_state.find(host, chosen.domain).domid)
    operations = unfinished(host, str(now.domid), now.name)
    if chosen.json:
        fields = [{**asdict(each.about), "goes_on": each.busy} for each in operations]
        show.as_json({**state_fields(now), "operations": fields})
        return
    show.line(f"domain {now.domid} ({now.name}): {now}")
    for each in operations:
        how = "goes on" if each.busy else f"was left unfinished: xenqemu recover {now.name}"
        show.line(f"the {each.about} {how} ({each.about.who})")


def state_fields(now: domain_state.DomainState) -> dict[str, object]:
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
