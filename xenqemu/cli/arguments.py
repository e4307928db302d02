"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from xenqemu.errors import UsageError
from xenqemu.system.deadline import MAX_SECONDS


class _Formatter(argparse.HelpFormatter):
    """Looks up itself how wide the terminal is: argparse loads `shutil` and three codecs for it."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class Parser(argparse.ArgumentParser):
    """Reports errors as `UsageError`, which has an exit code of its own."""

    def __init__(self, **about: Any) -> None:
        super().__init__(formatter_class=_Formatter, **about)

    def error(self, message: str) -> NoReturn:
        """Raise it, with the usage of the command."""
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


class CommandParser(Parser):
    """The parser of a command, to which `fill` adds the arguments when it is first used.

    To make one takes milliseconds, and a run of the program needs only one.
    """

    def __init__(self, *, fill: Callable[[argparse.ArgumentParser], None], **about: Any) -> None:
        self._pending = fill, about  # the parser itself is made later

    def __getattr__(self, name: str) -> Any:
        if "_pending" not in self.__dict__:
            raise AttributeError(name)
        fill, about = self.__dict__.pop("_pending")
        super().__init__(**about)
        fill(self)
        return getattr(self, name)


def _columns() -> int:
    """Return the width of the terminal, as `shutil.get_terminal_size` does."""
    with suppress(ValueError):
        if (told := int(os.environ.get("COLUMNS", "0"))) > 0:
            return told
    with suppress(OSError):  # it is no terminal
        return os.get_terminal_size(1).columns or 80
    return 80


def seconds(text: str) -> float:
    """Return a number of seconds, for argparse."""
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
        """Set them, or report what is too much."""
        if len(values) > 2:
            parser.error(f"unrecognized arguments: {' '.join(map(str, values[2:]))}")
        setattr(namespace, self.dest, values)


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers within bounds, for argparse."""

    def taken(text: str) -> int:
        if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")

    return taken


def add_domain(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a domain."""
    parser.add_argument("domain", metavar="DOM", help="name or id")


def add_step_timeout(parser: argparse.ArgumentParser) -> None:
    """Add the deadline of the guest's own steps."""
    parser.add_argument(
        "--step-timeout",
        type=seconds,
        metavar="SECONDS",
        help="Deadline for the guest to acknowledge the suspend request, and again to suspend "
        "(default: the settings).",
    )


def add_json_and_run(
    parser: argparse.ArgumentParser, run: Callable[[Any], Any], *, only_prints: bool = False
) -> None:
    """Add what all commands have: `--json`, and the function that runs them.

    `only_prints` is for those that have done nothing if their output cannot be written.
    """
    parser.add_argument("--json", action="store_true", help="Answer in JSON, for programs.")
    parser.set_defaults(run=run, only_prints=only_prints)
