"""The command that saves the state of a domain's devices alone."""

from __future__ import annotations

import argparse
import json

from xenqemu.cli import report, show
from xenqemu.cli.chosen import host_of
from xenqemu.host import domain_state
from xenqemu.operations.save_devices import save_devices as save_device_state


def save_devices(chosen: argparse.Namespace) -> None:
    """`xenqemu devices save DOM FILE`."""
    host = host_of(chosen)
    domain = domain_state.find(host, chosen.domain)
    found = save_device_state(host, domain, chosen.file)
    if chosen.json:
        show.line(
            json.dumps({"saved": str(chosen.file), "domid": domain.domid, "size": found.size})
        )
    else:
        show.line(f"saved the devices of {chosen.domain} to {chosen.file}: {report.summary(found)}")
