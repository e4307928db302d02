"""What the parsers of all commands are made of."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
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


def command(module: str, name: str) -> Callable[[Any], Any]:
    """Return a command, or the type of an argument, of a module that is loaded by the call."""

    def run(given: Any) -> Any:
        return getattr(import_module(f"xenqemu.cli.{module}"), name)(given)

    return run


def has_flags(verb: argparse.ArgumentParser, **letters: str) -> None:
    """Give a command options of a letter, with what they mean; `options` holds those given."""
    verb.set_defaults(options=[])
    for letter, text in letters.items():
        verb.add_argument(
            f"-{letter}", dest="options", action="append_const", const=letter, help=text
        )


def has_step_timeout(verb: argparse.ArgumentParser) -> None:
    """Give a command the deadline of the guest's own steps."""
    verb.add_argument(
        "--step-timeout",
        type=seconds,
        metavar="SECONDS",
        help="for the guest to take the request, and again to suspend (default: by the settings)",
    )


def has_timeout(verb: argparse.ArgumentParser, what: str) -> None:
    """Give a command a deadline for all of it."""
    verb.add_argument("--timeout", type=seconds, metavar="SECONDS", help=what)


def ends(verb: argparse.ArgumentParser, run: Callable[[Any], Any]) -> None:
    """Give a command what all have: its function, and `--json`."""
    verb.add_argument("--json", action="store_true", help="answer in JSON, for programs")
    verb.set_defaults(run=run)
