"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from xenqemu.errors import UsageError
from xenqemu.quantities import bytes_of, seconds_of
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

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse all: a word too much is an error of the command that it was given to."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            options = [flag for flag in self._option_string_actions if flag.startswith("--")]
            self.error(f"unrecognized arguments: {' '.join(rest)}{_nearest(rest[0], options)}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Raise `ArgumentError` for a word that is no choice, with the nearest that is."""
        if action.choices is not None and value not in action.choices:
            near = _nearest(value, list(map(str, action.choices)))
            raise argparse.ArgumentError(action, f"there is no {value!r}{near}")


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


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return a question whether the nearest of `known` was meant, "" if none is near."""
    import difflib  # noqa: PLC0415  few command lines have such a mistake

    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _columns() -> int:
    """Return the width of the terminal, as `shutil.get_terminal_size` does."""
    with suppress(ValueError):
        if (told := int(os.environ.get("COLUMNS", "0"))) > 0:
            return told
    with suppress(OSError):  # it is no terminal
        return os.get_terminal_size(1).columns or 80
    return 80


def duration_or_zero(text: str) -> float:
    """Return a number of seconds, which may be 0, for argparse."""
    taken = seconds_of(text)
    if taken is not None and taken <= MAX_SECONDS:
        return taken
    most = f"of {MAX_SECONDS:g} s at most"
    raise argparse.ArgumentTypeError(f"{text!r} is no time {most}, as 90, 5m or 300ms")


def duration(text: str) -> float:
    """Return a number of seconds above 0, for argparse."""
    taken = duration_or_zero(text)
    if not taken:
        raise argparse.ArgumentTypeError(f"{text!r} is no time above 0")
    return taken


def size(text: str) -> int:
    """Return a number of bytes, for argparse."""
    taken = bytes_of(text)
    if taken:
        return taken
    raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes, as 100M or 100MiB")


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
        type=duration,
        metavar="TIME",
        help="Deadline for the guest to acknowledge the suspend request, and again to suspend "
        "(default: the settings).",
    )


def add_json_and_run(
    parser: argparse.ArgumentParser, run: Callable[[Any], Any], *, only_prints: bool = False
) -> None:
    """Add what all commands have: the common options, and the function that runs them.

    `only_prints` is for those that have done nothing if their output cannot be written.
    """
    add_common(parser, default=argparse.SUPPRESS)
    parser.set_defaults(run=run, only_prints=only_prints)


def add_common(parser: argparse.ArgumentParser, default: Any = None) -> None:
    """Add the options that are taken before a command and after it.

    What is not given is `default`; after a command, that is what was given before it.
    """
    group = parser.add_argument_group("options of all commands")
    group.add_argument(
        "--host",
        metavar="xen|lab[:DIR]|auto",
        default=default or os.environ.get("XENQEMU_HOST") or None,
        help="the host to work on (default: $XENQEMU_HOST, the settings, or what this machine is)",
    )
    group.add_argument(
        "--conf",
        metavar="FILE",
        type=Path,
        default=default,
        help="the settings (default: $XENQEMU_CONF, or /etc/xenqemu/xenqemu.conf if it is there)",
    )
    group.add_argument(
        "--metrics",
        metavar="FILE",
        type=Path,
        default=default,
        help="count operations in FILE, for Prometheus (default: the settings)",
    )
    for flags, name, text in (
        (["--json"], "json", "Answer in JSON, for programs."),
        (["-v", "--verbose"], "verbose", "Tell each phase, and how long it took."),
        (["-q", "--quiet"], "quiet", "Tell nothing but errors, and what was asked for."),
        (["-T", "--timestamps"], "timestamps", "Begin lines on standard error with the time."),
    ):
        group.add_argument(
            *flags, dest=name, action="store_true", default=default or False, help=text
        )
