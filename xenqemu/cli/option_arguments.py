"""An operation's options as arguments of a command, and back."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import Field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from xenqemu.cli.arguments import duration, duration_or_zero, number, size
from xenqemu.cli.input_file import named_file
from xenqemu.errors import UsageError
from xenqemu.formats.stream.layout import Layout
from xenqemu.option import Option, option_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def add_options(parser: argparse.ArgumentParser, kind: type[DataclassInstance]) -> None:
    """Add the options of a class; the command itself adds those without a flag."""
    for each in fields(kind):
        spelling = option_of(each)
        if spelling.choices:
            which = parser.add_mutually_exclusive_group()
            for flag, (value, text) in spelling.choices.items():
                _add(which, each, flag, action="store_const", const=value, help=text)
        elif spelling.nested:
            _add_switch(parser, each, spelling)
            add_options(parser, spelling.nested)
        elif spelling.metavar == "LEVEL":
            _add_level(parser, each, spelling)
        elif spelling.flag and spelling.metavar:
            _add_value(parser, each, spelling)
        elif spelling.flag:
            turned = not each.default
            _add(
                parser, each, spelling.flag, action="store_const", const=turned, help=spelling.text
            )


def options_of(chosen: argparse.Namespace, kind: type[T]) -> T:
    """Return the options that were given; others keep their default.

    Files (CFG) are left out: the command reads them.  Raises `UsageError` for
    options that go with another one which was not given.
    """
    given: dict[str, Any] = {}
    for each in fields(kind):
        spelling = option_of(each)
        if spelling.nested:
            given[each.name] = _nested(chosen, each, spelling.flag, spelling.nested)
        elif spelling.metavar != "CFG" and each.name in chosen:
            value = getattr(chosen, each.name)
            given[each.name] = tuple(value) if isinstance(value, list) else value
    return kind(**given)


def _nested(
    chosen: argparse.Namespace, each: Field[Any], flag: str, kind: type[DataclassInstance]
) -> object:
    """Return the options of `kind` where `flag` was given, or is by default; else None."""
    if getattr(chosen, each.name, each.default is not None):
        return options_of(chosen, kind)
    given = [option_of(other).flag for other in fields(kind) if other.name in chosen]
    if given:
        raise UsageError(f"{given[0]} goes with {flag}")
    return None


def _add_switch(parser: argparse.ArgumentParser, each: Field[Any], spelling: Option) -> None:
    """Add the flag of nested options, and its opposite where they are given by default."""
    if each.default is None:
        _add(parser, each, spelling.flag, action="store_true", help=spelling.text)
    else:
        switch = argparse.BooleanOptionalAction
        _add(parser, each, spelling.flag, action=switch, help=spelling.text)


def _add_value(parser: argparse.ArgumentParser, each: Field[Any], spelling: Option) -> None:
    text, how = spelling.text, {"metavar": spelling.metavar}
    if isinstance(each.default, tuple):
        how["action"] = "append"
    elif each.default is not None:
        default = each.default
        text += f" (default: {default.value if isinstance(default, Enum) else default})"
    kind = _KINDS[spelling.metavar](spelling)
    _add(parser, each, spelling.flag, type=kind, help=text, **how)


def _add_level(parser: argparse.ArgumentParser, each: Field[Any], spelling: Option) -> None:
    """Add a flag that may have a level, `--flag=LEVEL`; alone it is level 0.

    The level is no word of its own: argparse would take the next argument for it.
    """
    _add(parser, each, spelling.flag, action="store_const", const=0, help=spelling.text)
    for level in range(spelling.least, spelling.most + 1):
        flag = f"{spelling.flag}={level}"
        _add(parser, each, flag, action="store_const", const=level, help=argparse.SUPPRESS)


def _add(to: Any, each: Field[Any], flag: str, **about: Any) -> None:
    to.add_argument(flag, dest=each.name, default=argparse.SUPPRESS, **about)


def _count(spelling: Option) -> Callable[[str], int]:
    return number(spelling.least, spelling.most)


def _layout(text: str) -> Layout:
    try:
        return Layout(text)
    except ValueError as error:
        names = " or ".join(layout.value for layout in Layout)
        raise argparse.ArgumentTypeError(f"{text!r} is no layout: {names}") from error


_KINDS: dict[str, Callable[[Option], Callable[[str], object]]] = {
    "TIME": lambda spelling: duration if spelling.least else duration_or_zero,
    "SIZE": lambda _spelling: size,
    "LAYOUT": lambda _spelling: _layout,
    "CMD": lambda _spelling: str,
    "CLONE": lambda _spelling: str,
    "VDEV=FILE": lambda _spelling: str,
    "CFG": lambda _spelling: named_file,
    "FILE": lambda _spelling: named_file,
    "N": _count,
    "PAGES": _count,
}
"""How the value of each metavar is read."""
