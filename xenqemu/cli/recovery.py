"""The commands on operations that go on, or that were left unfinished."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from xenqemu.cli import show
from xenqemu.cli.chosen import host_of
from xenqemu.errors import Stranded, UsageError
from xenqemu.operations.cancel import cancel as cancel_operation
from xenqemu.operations.recover import Recovered
from xenqemu.operations.recover import recover as recover_operations

CANCEL_TIMEOUT = 60.0
"""Seconds that an operation has to end when it is asked to."""


def recover(chosen: argparse.Namespace) -> None:
    """`xenqemu recover [--all|DOM] [--moved|--stayed]`."""
    host = host_of(chosen)
    if chosen.moved is not None and not chosen.domain:
        raise UsageError("--moved and --stayed are about one domain: name it")
    ended = recover_operations(host, chosen.domain or "", moved=chosen.moved)
    if chosen.json:
        show.as_json([asdict(each) for each in ended])
    elif not ended:
        show.line("nothing was left unfinished")
    else:
        for each in ended:
            _tell(each)
    if not all(each.whole for each in ended):
        raise Stranded("not all is in order yet; run it again once the reason is gone", "undo")


def cancel(chosen: argparse.Namespace) -> None:
    """`xenqemu cancel DOM`."""
    host = host_of(chosen)
    ended = cancel_operation(host, chosen.domain, chosen.timeout or CANCEL_TIMEOUT)
    if chosen.json:
        show.as_json([asdict(each.about) for each in ended])
    else:
        for each in ended:
            show.line(f"the {each.about} has ended")


def _tell(ended: Recovered) -> None:
    how = f"finished: {ended.meaning}" if ended.finished else "taken back"
    if ended.doubtful:
        how = "left as it is"
    show.line(f"the {ended.about}, interrupted in its {ended.phase or 'beginning'}, is {how}")
    for trouble in ended.trouble:
        show.line(f"  {trouble}")
    if ended.state:
        show.line(f"  domain {ended.about.domid}: {ended.state}")
