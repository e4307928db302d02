"""Immutable values whose fields are the annotations of their class, as a frozen dataclass has them.

A dataclass compiles six functions of its own when it is loaded, and its module loads `inspect`
before: of what a command takes to start, that was more than half.  Here all classes share one set
of functions.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self, dataclass_transform


@dataclass_transform(frozen_default=True)
class Frozen:
    """Base of values; a field may have a default, which is never changed either.

    Two of one class are equal if their fields are.  `vars` returns these by name, in their order.
    """

    _names = tuple[str, ...]()  # has no annotation, which would make it a field
    _by_name_only = False

    def __init_subclass__(cls, *, kw_only: bool = False) -> None:
        """Take the fields of a class; `kw_only` as of a dataclass."""
        super().__init_subclass__()
        cls._by_name_only = kw_only
        own = cls.__annotations__.items()
        fields = [name for name, kind in own if "ClassVar" not in str(kind)]
        cls._names = (*cls._names, *fields)

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = self._names
        if values and self._by_name_only:
            raise TypeError(f"{type(self).__name__} has no positional fields")
        given = {**dict(zip(fields, values, strict=False)), **named}
        if len(given) < len(values) + len(named) or not given.keys() <= {*fields}:
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(fields)}, each once")
        if named or len(given) < len(fields):
            given = {name: given[name] if name in given else self._default(name) for name in fields}
        self.__dict__.update(given)

    def but(self, **changed: Any) -> Self:
        """Return the same value, but for some fields."""
        return type(self)(**{**dict(zip(self._names, self._values(), strict=True)), **changed})

    @classmethod
    def _default(cls, name: str) -> Any:
        try:
            return getattr(cls, name)
        except AttributeError:
            raise TypeError(f"{cls.__name__} needs {name}") from None

    def _values(self) -> tuple[Any, ...]:
        return tuple([self.__dict__[name] for name in self._names])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Frozen) and type(self) is type(other):
            return self._values() == other._values()
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        fields = zip(self._names, self._values(), strict=True)
        shown = ", ".join(f"{name}={value!r}" for name, value in fields)
        return f"{type(self).__name__}({shown})"

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays as it is")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} stays")
