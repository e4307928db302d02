"""What the parsers of all commands are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from xenqemu.errors import UsageError
from xenqemu.settings.toml_values import MAX_SECONDS


class Parser(argparse.ArgumentParser):
    """Complains by `UsageError`, whose exit code is no other error's."""

    def error(self, message: str) -> NoReturn:
        """Raise it, with how the command is used."""
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


class Verb(Parser):
    """The parser of a command, which `of` fills once it is asked for anything.

    To make one takes milliseconds, and a run of the program needs but its own.
    """

    def __init__(self, *, of: Callable[[argparse.ArgumentParser], None], **about: Any) -> None:
        self._to_be = of, about  # and nothing more of what a parser is

    def __getattr__(self, name: str) -> Any:
        if "_to_be" not in self.__dict__:
            raise AttributeError(name)
        of, about = self.__dict__.pop("_to_be")
        super().__init__(**about)
        of(self)
        return getattr(self, name)


def seconds(text: str) -> float:
    """Take a number of seconds, for argparse."""
    with suppress(ValueError):
        taken = float(text)
        if 0 < taken <= MAX_SECONDS:
            return taken
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to {MAX_SECONDS:g}")


class OneOrTwo(argparse.Action):
    """Takes one word or two."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002  argparse calls us so
    ) -> None:
        """Take them, or complain of what is too much."""
        if len(values) > 2:
            parser.error(f"unrecognized arguments: {' '.join(map(str, values[2:]))}")
        setattr(namespace, self.dest, values)


def number(least: int, most: int) -> Callable[[str], int]:
    """Return what takes a whole number within bounds, for argparse."""

    def taken(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return taken


def takes_domain(verb: argparse.ArgumentParser) -> None:
    """Have a command take a domain."""
    verb.add_argument("domain", metavar="DOM", help="name or id")


def has_step_timeout(verb: argparse.ArgumentParser) -> None:
    """Give a command the deadline of the guest's own steps."""
    verb.add_argument(
        "--step-timeout",
        type=seconds,
        metavar="SECONDS",
        help="For the guest to take the request, and again to suspend (default: by the settings).",
    )


def ends(verb: argparse.ArgumentParser, run: Callable[[Any], Any]) -> None:
    """Give a command what all have: its function, and `--json`."""
    verb.add_argument("--json", action="store_true", help="Answer in JSON, for programs.")
    verb.set_defaults(run=run)
