"""Values as JSON and back: dataclasses, each field of its very type, and families of them.

A family is a subclass of `Tagged`; a member is written with the name of its class, by which it is
known once that is defined: `{"Resume": {"domid": 1, "uuid": "…"}}`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, dataclass_transform, get_args, get_origin, get_type_hints


@dataclass_transform(frozen_default=True)
class Tagged:
    """A frozen dataclass, without a decorator; its name says which of its family it is."""

    _known: ClassVar[dict[str, type[Tagged]]] = {}

    def __init_subclass__(cls) -> None:
        Tagged._known[cls.__name__] = dataclass(frozen=True)(cls)

    @classmethod
    def member(cls, name: str) -> type[Tagged]:
        """Return the member of this family that has a name; raise `ValueError` if none has."""
        found = Tagged._known.get(name)
        if found is None or not issubclass(found, cls):
            raise ValueError(f"{name} is no {cls.__name__}")
        return found


def plain(value: Any) -> Any:
    """Return a value for JSON: of a dataclass an object, of a tuple a list."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if not is_dataclass(value):
        return value
    values = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return {type(value).__name__: values} if isinstance(value, Tagged) else values


def typed(kind: Any, value: Any) -> Any:
    """Return the value of type `kind` that `value` of JSON is; raise `ValueError` if it is none.

    `kind` is a dataclass, a family, `tuple[T, ...]`, `T | None`, or what JSON itself has; numbers
    are not taken for one another, nor True for one.  Each field has to be there, and no other.
    """
    if get_origin(kind) is UnionType:
        (kind,) = set(get_args(kind)) - {NoneType}
        return None if value is None else typed(kind, value)
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(typed(get_args(kind)[0], each) for each in value)
    if isinstance(kind, type) and issubclass(kind, Tagged):
        if isinstance(value, dict) and len(value) == 1:
            ((name, values),) = value.items()
            return _with_fields(kind.member(name), values)
    elif is_dataclass(kind):
        return _with_fields(kind, value)
    elif type(value) is kind:
        return value
    raise ValueError(f"{value!r} is no {kind}")


def _with_fields(kind: Any, values: Any) -> Any:
    """Return a dataclass of these values; `TypeError` for a family itself, which has no values."""
    if not isinstance(values, dict) or values.keys() != {field.name for field in fields(kind)}:
        raise ValueError(f"{values!r} is no {kind.__name__}")
    hints = _hints(kind)
    return kind(**{name: typed(hints[name], each) for name, each in values.items()})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass' fields: to find them for each line of a log takes long."""
    return get_type_hints(kind)
