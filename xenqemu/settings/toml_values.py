"""Settings: a text in TOML that changes a frozen value, whose fields say what it may hold.

::

    field of type        in the text             is
    -------------        -----------             --
    a frozen value       [name]                  a table of its own
    bool                 true
    int                  4                       a count
    float                60, 0.5, "5m"           seconds
    str                  "auto"
    Path                 "/var/lib/xen/save"     absolute
    Path | None          "", "/some/folder"      absolute, or none
    tuple[str, ...]      ["one", "two"]
    an Enum              "one"                   a value of its own

A key has the name of its field.  What the text leaves out stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from xenqemu.errors import UsageError
from xenqemu.frozen import Frozen
from xenqemu.quantities import seconds_of
from xenqemu.system.deadline import MAX_SECONDS

MAX_TEXT = 1 << 16
"""Bytes of a settings file at most."""

MAX_COUNT = 1000

T = TypeVar("T", bound=Frozen)


def read(text: bytes, base: T, where: str) -> T:
    """Return `base`, changed as `text` says; `where` names the text in errors.

    Raises `UsageError` with the key, what was expected and what was got; of a key that is not
    known, with the nearest one that is.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"{where}: expected at most {MAX_TEXT} bytes, got more")
    import tomllib  # noqa: PLC0415  most hosts have no such text, and need not load it

    try:
        table = tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # of TOML, UTF-8, a number, or depth
        raise UsageError(f"{where}: not TOML: {error}") from error
    return taken(table, base, where)


def taken(table: Mapping[str, object], base: T, where: str) -> T:
    """Return `base`, changed as a table says; raises as `read`."""
    return _Reading(where, list(_names(type(base)))).table(table, base)


class _Reading(Frozen):
    """The reading of one text, called `where`; `known` are the names of all fields."""

    where: str
    known: list[str]

    def table(self, table: Mapping[str, object], base: T, above: str = "") -> T:
        """Return `base`, changed as a table says; its keys' names begin with `above`."""
        types = get_type_hints(type(base))
        changes = {}
        for key, value in table.items():
            if key not in types:
                raise self._unknown(above + key)
            changes[key] = self._value(value, types[key], getattr(base, key), above + key)
        return base.but(**changes)

    def _value(self, value: object, kind: Any, base: Any, name: str) -> object:
        try:
            if known := _known(kind):
                return known.take(value)
            return self.table(_mapping(value), base, f"{name}.")
        except ValueError as error:
            expected = known.expected if known else "a table"
            message = f"{self.where}: {name}: expected {expected}, got {_shown(value)}"
            raise UsageError(message) from error

    def _unknown(self, name: str) -> UsageError:
        import difflib  # noqa: PLC0415  few texts have such a mistake

        (nearest,) = difflib.get_close_matches(name, self.known, 1, 0.0)
        return UsageError(f"{self.where}: unknown key {name!r:.80}; did you mean {nearest}?")


def _names(kind: type, above: str = "") -> Iterator[str]:
    """Yield the names of all fields, as "table.key" where they are in a table."""
    for key, wanted in get_type_hints(kind).items():
        yield above + key
        if not _known(wanted):
            yield from _names(wanted, f"{above}{key}.")


def _shown(value: object) -> str:
    """Return how a value begins in Python, which writes no number of thousands of digits."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "a number of too many digits"


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise ValueError
    return value


def _seconds(value: object) -> float:
    if isinstance(value, str):
        value = seconds_of(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ValueError
    if not 0 < value <= MAX_SECONDS:  # which no nan is
        raise ValueError
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _path(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError
    return path


def _path_or_none(value: object) -> Path | None:
    return None if value == "" else _path(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(map(_text, value))


class _Kind(NamedTuple):
    """What a value has to be, and what takes it or raises `ValueError`."""

    expected: str
    take: Callable[[object], object]


_KINDS: Mapping[Any, _Kind] = {
    bool: _Kind("true or false", _truth),
    int: _Kind(f"a whole number from 1 to {MAX_COUNT}", _count),
    float: _Kind(f'seconds or a time as "5m", above 0 and up to {MAX_SECONDS:g} s', _seconds),
    str: _Kind("printable text", _text),
    Path: _Kind("an absolute path", _path),
    Path | None: _Kind('an absolute path, or ""', _path_or_none),
    tuple[str, ...]: _Kind("a list of printable texts", _texts),
}
"""By the type of a field."""


def _known(kind: Any) -> _Kind | None:
    """Return what a value of a type has to be, None for a value of fields."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _Kind(f"one of {', '.join(each.value for each in kind)}", kind)
    return _KINDS.get(kind)
