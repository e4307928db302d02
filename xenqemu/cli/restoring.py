"""The command that restores a domain."""

from __future__ import annotations

import argparse
import json

from xenqemu.cli import show
from xenqemu.cli.chosen import config_of, host_of
from xenqemu.cli.hooked import hooked
from xenqemu.operations.restore import restore as restore_domain
from xenqemu.settings.xenqemu_conf import read_settings


def restore(chosen: argparse.Namespace) -> None:
    """`xenqemu restore [-p] [-e] [CFG] FILE`."""
    file = chosen.files[-1]
    config = config_of(chosen.files[0]) if len(chosen.files) > 1 else None
    settings = read_settings(chosen.conf)
    with hooked(settings.hooks, "restore", file=str(file)):
        done = restore_domain(
            host_of(chosen, settings=settings),
            file,
            paused=chosen.paused,
            config=config,
            monitor=chosen.monitor,
            timeout=chosen.timeout or settings.deadlines.operation,
            observe=show.observer(as_lines_of_json=chosen.json),
        )
    used = config or done.record.config
    name = used.name if used else ""
    if chosen.json:
        show.line(json.dumps({"restored": str(file), "domid": done.domid, "name": name}))
    else:
        state = "paused" if chosen.paused else "running"
        show.line(f"restored {name} from {file}: domain {done.domid}, {state}")
