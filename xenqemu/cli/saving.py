"""The command that saves a domain."""

from __future__ import annotations

import argparse
import json

from xenqemu.cli import report, show
from xenqemu.cli.chosen import config_of, host_of
from xenqemu.cli.hooked import hooked
from xenqemu.cli.precopy_options import live_policy
from xenqemu.host import domain_state
from xenqemu.operations.save import After
from xenqemu.operations.save import save as save_domain
from xenqemu.settings.xenqemu_conf import read_settings


def save(chosen: argparse.Namespace) -> None:
    """`xenqemu save [-c|-p] [-D] [--live [--max-downtime TIME] …] DOM FILE [CFG]`."""
    precopy = live_policy(chosen)
    settings = read_settings(chosen.conf)
    host = host_of(chosen, chosen.step_timeout, settings)
    domain = domain_state.find(host, chosen.domain)
    config = config_of(chosen.config)
    about = {"domid": domain.domid, "name": domain.name, "file": str(chosen.file)}
    watch = show.Stopwatch(show.observer(as_lines_of_json=chosen.json))
    with hooked(settings.hooks, "save", **about):
        found = save_domain(
            host,
            domain,
            chosen.file,
            after=_after(chosen),
            config=config,
            keep_domid=chosen.keep_domid,
            precopy=precopy,
            compacted=chosen.compact,
            check=settings.save.verify and chosen.check,
            timeout=chosen.timeout or settings.deadlines.operation,
            observe=watch,
        )
    still = round(watch.seconds, 3) if chosen.checkpoint else None
    if chosen.json:
        fields = {"saved": str(chosen.file), "domid": domain.domid, "size": found.size}
        show.line(json.dumps(fields | ({} if still is None else {"downtime": still})))
    else:
        rest = "" if still is None else f"; downtime {still:.3g} s"
        show.line(f"saved {chosen.domain} to {chosen.file}: {report.summary(found)}{rest}")


def _after(chosen: argparse.Namespace) -> After:
    if chosen.checkpoint:
        return After.CONTINUE
    return After.PAUSE if chosen.paused else After.DESTROY
