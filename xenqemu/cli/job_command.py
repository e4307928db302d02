"""`xenqemu job [--watch] [DOM]`: how far operations are, seen from another terminal."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.quantities import in_bytes, in_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xenqemu.operations.job import Job

AGAIN = 0.5
"""Seconds between two looks of one who watches."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--watch", action="store_true", help="Go on until no operation is running there any more."
    )
    parser.add_argument("domain", metavar="DOM", nargs="?", help="name or id (default: all)")
    add_json_and_run(parser, run, only_prints=True)


def run(chosen: argparse.Namespace) -> None:
    """Print each operation, or those on the domain, once or again and again."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.operations.job import job

    names = [chosen.domain] if chosen.domain else []
    with open_host(chosen.host, settings=settings_of(chosen)) as host:
        if not chosen.watch:
            _show(job(host, *names), as_json=chosen.json)
            return
        lines = _Lines()
        found = job(host, *names)
        while any(each.running for each in found):
            if chosen.json:
                _show(found, as_json=True)
            else:
                lines.show(found)
            time.sleep(AGAIN)
            found = job(host, *names)
        _show(found, as_json=chosen.json)


def _show(found: list[Job], *, as_json: bool) -> None:
    """Print all that is known of some operations."""
    from xenqemu.cli import terminal

    if as_json:
        terminal.as_json({"jobs": [_fields(each) for each in found]}, indent=None)
        sys.stdout.flush()
    elif not found:
        terminal.line("no operation is running")
    else:
        for each in found:
            how = "is running" if each.running else "was left unfinished"
            terminal.line(f"the {each.about} {how} ({each.about.who})")
            for name, value in _words(each):
                terminal.line(f"  {name:<10} {value}")


def _words(job: Job) -> Iterator[tuple[str, str]]:
    """Yield what is known of an operation, in the words of people."""
    yield "phase", job.phase or "beginning"
    yield "elapsed", in_time(job.elapsed)
    known = job.progress
    if known is None:
        return
    if known.total:
        share = f"{100 * known.done // known.total} %"
        yield "done", f"{in_bytes(known.done)} of {in_bytes(known.total)}, {share}"
        left = "" if known.left is None else f", ETA {in_time(known.left)}"
        yield "rate", f"{in_bytes(known.rate)}/s{left}"
    if known.iteration and job.dirty_rate is not None:
        yield "iteration", f"{known.iteration.number + 1}"
        yield "dirty rate", f"{in_bytes(job.dirty_rate)}/s"
        yield "expected", f"downtime of {in_time(known.iteration.expected_downtime)}"
    if job.downtime:
        yield "downtime", f"{in_time(job.downtime)} so far"


def _fields(job: Job) -> dict[str, Any]:
    """Return what is known of an operation, for a program: bytes, seconds, bytes per second."""
    from xenqemu.cli.domain_fields import about_fields

    fields: dict[str, Any] = {
        **about_fields(job.about),
        "running": job.running,
        "phase": job.phase,
        "elapsed": round(job.elapsed, 3),
        "downtime": round(job.downtime, 3),
    }
    known = job.progress
    if known and known.total:
        fields |= {"done": known.done, "total": known.total, "rate": round(known.rate)}
        fields["left"] = None if known.left is None else round(known.left, 3)
    if known and known.iteration and job.dirty_rate is not None:
        fields |= {
            "iteration": known.iteration.number,
            "dirty_rate": round(job.dirty_rate),
            "expected_downtime": round(known.iteration.expected_downtime, 3),
        }
    return fields


class _Lines:
    """A line for each operation; on a terminal they are redrawn in their places."""

    def __init__(self) -> None:
        self._drawn = 0

    def show(self, found: list[Job]) -> None:
        """Print the lines; the cursor is below them then."""
        from xenqemu.cli import terminal
        from xenqemu.cli.progress_line import columns, fitted

        if sys.stdout.isatty():
            sys.stdout.write(f"\x1b[{self._drawn}A\x1b[J" if self._drawn else "")
        self._drawn = len(found)
        for each in found:
            terminal.line(fitted(_parts(each), columns(sys.stdout) - 1))
        sys.stdout.flush()


def _parts(job: Job) -> list[str]:
    """Return what a line says of an operation, what matters most first."""
    parts = [f"{job.about.verb} of {job.about.name or job.about.file}: {job.phase}"]
    known = job.progress
    if known and known.total:
        parts.append(f"{100 * known.done // known.total} %")
    if job.downtime:
        parts.append(f"downtime {in_time(job.downtime)}")
    if known and known.done and known.left is not None:
        parts += [f"ETA {in_time(known.left)}", f"{in_bytes(known.rate)}/s"]
    if job.dirty_rate is not None:
        parts.append(f"dirty rate {in_bytes(job.dirty_rate)}/s")
    return parts
