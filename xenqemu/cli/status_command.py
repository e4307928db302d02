"""`xenqemu status DOM`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from xenqemu.cli.arguments import add_domain, add_json_and_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_domain(parser)
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> None:
    """Print what all parties say of the domain, and the operations on it."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.domain_fields import state_fields
    from xenqemu.host import domain_state
    from xenqemu.operations.left_suspended import left_suspended
    from xenqemu.operations.recover import damaged, unfinished
    from xenqemu.settings.xenqemu_conf import read_settings

    with open_host(chosen.host, settings=read_settings(chosen.conf)) as host:
        domain = domain_state.find(host, chosen.domain)
        now = domain_state.state(host, domain.domid)
        operations = unfinished(host, str(domain.domid), domain.name)
        left = [each.text for each in left_suspended(host, str(domain.domid))]
        unread = damaged(host, str(domain.domid), domain.name)
    if chosen.json:
        fields = [{**asdict(each.about), "running": each.running} for each in operations]
        broken = [{"path": str(each.path), "reason": each.reason} for each in unread]
        found = {"operations": fields, "left": left, "damaged": broken}
        terminal.as_json({**state_fields(now), **found})
        return
    terminal.line(f"domain {now.domid} ({now.name}): {now}")
    for each in operations:
        how = "is running" if each.running else f"was left unfinished: xenqemu recover {now.name}"
        terminal.line(f"the {each.about} {how} ({each.about.who})")
    for text in left:
        terminal.line(f"it {text}")
    for file in unread:
        terminal.line(str(file))
