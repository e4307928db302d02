"""How a field of libxl's JSON is read from the settings of an xl.cfg: one row a field.

A table of rows is an object of libxl_types.idl with its fields in libxl's order.  A reader returns
None for what has its default value: libxl leaves that out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from xenqemu.formats.config.xl_cfg_settings import U32, U64, XlCfgSettings, wrapped

Reader: TypeAlias = Callable[[XlCfgSettings], Any]
Row: TypeAlias = tuple[str, Reader]


def struct(*rows: Row) -> Reader:
    """Read an object, which is there even if it is empty."""
    return lambda cfg: present((name, read(cfg)) for name, read in rows)


def present(fields: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object without what is None."""
    return {name: value for name, value in fields if value is not None}


def text(key: str) -> Reader:
    """Read a string; an empty one is there."""
    return lambda cfg: cfg.string(key)


def flag(key: str) -> Reader:
    """Read a libxl_defbool."""
    return lambda cfg: cfg.flag(key)


def number(key: str, *, default: int = 0) -> Reader:
    """Read an int."""
    return _number(key, wrapped, default)


def unsigned(key: str) -> Reader:
    """Read a uint32."""
    return _number(key, lambda value: value & U32, 0)


def mib(key: str) -> Reader:
    """Read MiB as KiB of 64 bits; 0 is there."""
    return _number(key, lambda value: value * 1024 & U64, None)


def bounded(key: str) -> Reader:
    """Read a number from 0 to INT_MAX; xl refuses all else."""

    def read(cfg: XlCfgSettings) -> int | None:
        value = cfg.number(key, quiet=True)
        if value is None and not cfg.is_set(key):
            return None
        if value is None or not 0 <= value < 1 << 31:
            raise cfg.wrong(key, f"a number from 0 to {(1 << 31) - 1}", "something else")
        return value

    return read


def strings(key: str) -> Reader:
    """Read a list of strings; an empty one is left out."""

    def read(cfg: XlCfgSettings) -> list[str] | None:
        found = cfg.texts(key)
        if found is None and cfg.is_set(key):
            raise cfg.wrong(key, "a list of strings", "one value")
        return found or None

    return read


def word(key: str, words: Sequence[str], *, default: str | None = None) -> Reader:
    """Read an enumeration by its words, in small or capital letters; xl refuses others."""
    return choice(key, {each: None if each == default else each for each in words})


def choice(key: str, words: Mapping[str, Any], *, exact: bool = False) -> Reader:
    """Read what `words` make of a string; xl refuses others."""

    def read(cfg: XlCfgSettings) -> Any:
        said = cfg.string(key)
        return None if said is None else chosen(cfg, key, said, words, exact=exact)

    return read


def chosen(
    cfg: XlCfgSettings, key: str, said: str, words: Mapping[str, Any], *, exact: bool = False
) -> Any:
    """Return what `words` make of a string; raise for others."""
    found = said if exact else said.lower()
    if found not in words:
        raise cfg.bad(key, "one of " + ", ".join(words), said)
    return words[found]


def numbered_word(key: str, words: Sequence[str], *, default: str | None) -> Reader:
    """Read an enumeration by its word, or by its number, of which xl warns."""

    def read(cfg: XlCfgSettings) -> str | None:
        by_number = cfg.number(key, quiet=True)
        if by_number is None:
            return word(key, words, default=default)(cfg)  # type: ignore[no-any-return]
        if not 0 <= by_number < len(words):
            raise cfg.bad(key, "one of " + ", ".join(words), by_number)
        found = words[by_number]
        cfg.warn(key, f'a number is deprecated: "{found}"')
        return None if found == default else found

    return read


def _number(key: str, convert: Callable[[int], int], default: int | None) -> Reader:
    def read(cfg: XlCfgSettings) -> int | None:
        value = cfg.number(key)
        converted = None if value is None else convert(value)
        return None if converted == default else converted

    return read
