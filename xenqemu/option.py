"""An option of an operation, written once: its default, how a command spells it, what it means.

Options are the fields of frozen dataclasses.  Functions take these as one value; command lines are
made of them, and their docstrings too, so that all say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MANY = 999_999_999
"""The highest count where no other is given."""

_KEY = "option"
T = TypeVar("T")


class Option:
    """How one field is spelled; `text` says what it does where it is given.

    A `flag` without a `metavar` inverts its default; without a `flag` the value is positional.  A
    count is `least` at least and `most` at most; a time is above 0 if `least` is.  `choices` are
    values with a flag each, and what they do.  With the flag of `nested`, options of that class may
    be given.
    """

    def __init__(
        self,
        text: str,
        *,
        flag: str = "",
        metavar: str = "",
        least: int = 0,
        most: int = MANY,
        choices: Mapping[str, tuple[Any, str]] = MappingProxyType({}),
        nested: type[DataclassInstance] | None = None,
    ) -> None:
        self.text = text
        self.flag = flag
        self.metavar = metavar
        self.least = least
        self.most = most
        self.choices = choices
        self.nested = nested


def option(default: T, text: str, **spelled: Any) -> T:
    """Return a field for a dataclass, spelled as `Option` says."""
    return field(default=default, metadata={_KEY: Option(text, **spelled)})


def option_of(each: Field[Any]) -> Option:
    """Return how a field is spelled."""
    spelling: Option = each.metadata[_KEY]
    return spelling


def documented(cls: type[T]) -> type[T]:
    """Add what each field means to the docstring of a dataclass."""
    lines = [cls.__doc__ or "", ""]
    for each in fields(cast("Any", cls)):
        spelling = option_of(each)
        if isinstance(each.default, bool):
            lines.append(f"    {each.name}={not each.default}: {spelling.text}")
        else:
            lines.append(f"    {each.name}: {spelling.text}")
        lines += [f"        {value}: {text}" for value, text in spelling.choices.values()]
    cls.__doc__ = "\n".join(lines)
    return cls
