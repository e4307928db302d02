"""`xenqemu status [DOM]`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from xenqemu.cli.arguments import add_json_and_run

if TYPE_CHECKING:
    from xenqemu.operations.job import Job
    from xenqemu.operations.journal.log import Damaged
    from xenqemu.operations.overview import Overview
    from xenqemu.operations.saved_guests import SavedGuest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("domain", metavar="DOM", nargs="?", help="name or id (default: all)")
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> None:
    """Print what all parties say of the domain and the operations on it; or a line for each."""
    if chosen.domain is None:
        _of_all(chosen)
    else:
        _of_one(chosen)


def _of_one(chosen: argparse.Namespace) -> None:
    from xenqemu.choose_host import open_host
    from xenqemu.cli import terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.domain_fields import state_fields
    from xenqemu.host import domain_state
    from xenqemu.operations.job import job
    from xenqemu.operations.left_suspended import left_suspended
    from xenqemu.operations.recover import damaged

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        domain = domain_state.find(host, chosen.domain)
        now = domain_state.state(host, domain.domid)
        jobs = job(host, str(domain.domid), domain.name)
        left = [each.text for each in left_suspended(host, str(domain.domid))]
        unread = damaged(host, str(domain.domid), domain.name)
    if chosen.json:
        found = {"operations": list(map(_job_fields, jobs)), "left": left}
        terminal.as_json({**state_fields(now), **found, "damaged": list(map(_damaged, unread))})
        return
    terminal.line(f"domain {now.domid} ({now.name}): {now}")
    for each in jobs:
        terminal.line(_words(each))
    for text in left:
        terminal.line(f"it {text}")
    for file in unread:
        terminal.line(str(file))


def _of_all(chosen: argparse.Namespace) -> None:
    from xenqemu.choose_host import open_host
    from xenqemu.cli.chosen_settings import settings_for_all, settings_of
    from xenqemu.operations.overview import overview

    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        found = overview(host, settings_for_all(chosen, host).save_all.folder)
    if chosen.json:
        _print_fields(found)
    else:
        _print_lines(found)


def _print_fields(found: Overview) -> None:
    from xenqemu.cli import terminal
    from xenqemu.cli.domain_fields import state_fields

    fields = {
        "domains": list(map(state_fields, found.domains)),
        "operations": list(map(_job_fields, found.jobs)),
        "left": [{"domid": each.domain.domid, "text": each.text} for each in found.left],
        "damaged": list(map(_damaged, found.damaged)),
        "saved": list(map(_saved, found.saved)),
    }
    terminal.as_json(fields)


def _print_lines(found: Overview) -> None:
    from xenqemu.cli import terminal
    from xenqemu.cli.domain_fields import print_domains

    print_domains(found.domains)
    for job in found.jobs:
        terminal.line(_words(job))
    for left in found.left:
        terminal.line(f"domain {left.domain.domid} ({left.domain.name}) {left.text}")
    for file in found.damaged:
        terminal.line(str(file))
    for guest in found.saved:
        since = f", since {_when(guest)}" if guest.owner.saved else ""
        terminal.line(f"{guest.name} is saved: {guest.path}{since}")


def _words(job: Job) -> str:
    left = f"was left unfinished: xenqemu recover {job.about.name or job.about.domid}"
    return f"the {job.about} {'is running' if job.running else left} ({job.about.who})"


def _when(guest: SavedGuest) -> str:
    from xenqemu.cli.terminal import rfc3339

    return rfc3339(guest.owner.saved)


def _job_fields(job: Job) -> dict[str, Any]:
    from xenqemu.cli.domain_fields import about_fields

    return {**about_fields(job.about), "running": job.running}


def _damaged(file: Damaged) -> dict[str, str]:
    return {"path": str(file.path), "reason": file.reason}


def _saved(guest: SavedGuest) -> dict[str, str | None]:
    when = _when(guest) if guest.owner.saved else None
    return {"name": guest.name, "file": str(guest.path), "uuid": guest.owner.uuid, "saved": when}
