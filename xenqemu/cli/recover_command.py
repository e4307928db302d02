"""`xenqemu recover [--all|DOM] [--moved|--stayed]`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from xenqemu.choose_host import open_host
from xenqemu.cli import show
from xenqemu.cli.arguments import ends
from xenqemu.errors import Stranded, UsageError
from xenqemu.operations.recover import Recovered, recover
from xenqemu.settings.xenqemu_conf import read_settings


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    which = verb.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="On all domains (so too without DOM).")
    which.add_argument("domain", metavar="DOM", nargs="?", help="name or id")
    lives = verb.add_mutually_exclusive_group()
    lives.add_argument(
        "--moved",
        action="store_true",
        default=None,
        help="A guest in doubt lives on the other host.",
    )
    lives.add_argument(
        "--stayed", dest="moved", action="store_false", help="It does not: let it run on here."
    )
    ends(verb, run)


def run(chosen: argparse.Namespace) -> None:
    """End what was left unfinished, and say how."""
    if chosen.moved is not None and not chosen.domain:
        raise UsageError("--moved and --stayed are about one domain: name it")
    with open_host(chosen.host, settings=read_settings(chosen.conf)) as host:
        ended = recover(host, chosen.domain or "", moved=chosen.moved)
    if chosen.json:
        show.as_json([asdict(each) for each in ended])
    elif not ended:
        show.line("nothing was left unfinished")
    else:
        for each in ended:
            _tell(each)
    if not all(each.whole for each in ended):
        raise Stranded("not all is in order yet; run it again once the reason is gone", "undo")


def _tell(ended: Recovered) -> None:
    how = f"finished: {ended.meaning}" if ended.finished else "taken back"
    if ended.doubtful:
        how = "left as it is"
    show.line(f"the {ended.about}, interrupted in its {ended.phase or 'beginning'}, is {how}")
    for trouble in ended.trouble:
        show.line(f"  {trouble}")
    if ended.state:
        show.line(f"  domain {ended.about.domid}: {ended.state}")
