"""The options of acts on a guest that runs meanwhile: when it is to be suspended."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from dataclasses import fields

from xenqemu.errors import UsageError
from xenqemu.host.precopy import PrecopyOptions

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_SIZE = re.compile(r"([0-9]{1,15})([KMG]?)", re.ASCII)
_TIME = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|)", re.ASCII)

_COUNT = 999_999_999
"""Of iterations and of pages, the highest that is taken."""

OPTIONS = tuple(field.name for field in fields(PrecopyOptions))
"""All that is to be chosen, by its names."""


def add_options(verb: argparse.ArgumentParser) -> None:
    """Give a command the options; what is not given keeps the default of `PrecopyOptions`."""
    verb.add_argument(
        "--max-downtime", type=_time, metavar="TIME", help="the longest downtime, as 300ms or 2s"
    )
    verb.add_argument(
        "--iterations",
        type=number(0, _COUNT),
        metavar="N",
        help=f"at most (default: {PrecopyOptions.iterations})",
    )
    verb.add_argument(
        "--threshold",
        type=number(0, _COUNT),
        metavar="PAGES",
        help=f"suspend it when no more are left (default: {PrecopyOptions.threshold})",
    )
    verb.add_argument(
        "--bandwidth", type=_size, metavar="SIZE", help="bytes a second while it runs, as 100M"
    )
    verb.add_argument(
        "--give-up",
        action="store_const",
        const=True,
        help="leave it alone if it changes too fast, rather than suspend it for longer",
    )


def policy(chosen: argparse.Namespace) -> PrecopyOptions:
    """Return what was chosen."""
    given = {name: getattr(chosen, name) for name in OPTIONS}
    return PrecopyOptions(**{name: value for name, value in given.items() if value is not None})


def live_policy(chosen: argparse.Namespace) -> PrecopyOptions | None:
    """Return what was chosen where `--live` was, else None.

    Raises `UsageError` for options that make no sense without it.
    """
    if chosen.live:
        return policy(chosen)
    given = [name for name in OPTIONS if getattr(chosen, name) is not None]
    for name in [*given, *["compact"] * chosen.compact]:
        raise UsageError(f"--{name.replace('_', '-')} goes with --live")
    return None


def _size(text: str) -> int:
    found = _SIZE.fullmatch(text.upper())
    if found and int(found[1]):
        return int(found[1]) * _UNITS[found[2]]
    raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, as 100M")


def _time(text: str) -> float:
    found = _TIME.fullmatch(text)
    if found:
        return float(found[1]) / (1000 if found[2] == "ms" else 1)
    raise argparse.ArgumentTypeError(f"{text!r} is no time, as 300ms or 2s")


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what takes a whole number within bounds, for argparse."""

    def taken(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return taken
