"""`xenqemu recover [--all|DOM] [--moved|--stayed] [--forget]`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.errors import Stranded, UsageError

if TYPE_CHECKING:
    from xenqemu.operations.left_suspended import LeftSuspended
    from xenqemu.operations.recover import Recovered


_IN_DOUBT = "in doubt: look at both copies, then say which lives by --moved or --stayed"
_AGAIN = (
    "not all could be recovered; run it again once the reason is gone, or with --forget to leave "
    "drafts of save files where they are"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="All domains (the default).")
    which.add_argument("domain", metavar="DOM", nargs="?", help="name or id")
    lives = parser.add_mutually_exclusive_group()
    lives.add_argument(
        "--moved",
        action="store_true",
        default=None,
        help="The guest in doubt runs on the other host.",
    )
    lives.add_argument(
        "--stayed", dest="moved", action="store_false", help="It does not: resume it here."
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="Forget drafts of save files that cannot be removed.",
    )
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Recover unfinished operations, and print how."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.domain_fields import recovered_fields
    from xenqemu.operations.recover import damaged, recover

    if chosen.moved is not None and not chosen.domain:
        raise UsageError("--moved and --stayed are about one domain: name it")
    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        ended = recover(host, chosen.domain or "", moved=chosen.moved, forget=chosen.forget)
        unread = damaged(host, *filter(None, [chosen.domain]))
    for file in unread:
        terminal.aside(str(file))
    if chosen.json:
        terminal.as_json({"recovered": [recovered_fields(each) for each in ended]})
    elif not (ended or unread):
        terminal.tell("nothing was left unfinished")
    else:
        for each in ended:
            _print(each)
    mine = [file for file in unread if file.about or not chosen.domain]
    left = [each for each in ended if not each.complete]
    if left and not mine and all(each.in_doubt for each in left):
        raise Stranded(_IN_DOUBT, "undo")
    if mine or left:
        raise Stranded(_AGAIN, "undo")


def _print(ended: Recovered | LeftSuspended) -> None:
    from xenqemu.cli import terminal
    from xenqemu.operations.recover import Recovered

    if not isinstance(ended, Recovered):
        terminal.tell(f"domain {ended.domain.domid} ({ended.domain.name}) {ended.text}")
        if ended.state:
            terminal.tell(f"  domain {ended.domain.domid}: {ended.state}")
        return
    how = f"finished: {ended.meaning}" if ended.committed else "rolled back"
    if ended.in_doubt:
        how = "in doubt: left as it is"
    terminal.tell(f"the {ended.about}, interrupted in its {ended.phase or 'beginning'}, is {how}")
    for trouble in ended.trouble:
        terminal.tell(f"  {trouble}")
    if ended.state:
        terminal.tell(f"  domain {ended.about.domid}: {ended.state}")
