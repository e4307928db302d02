"""The settings of an xl.cfg file, asked for as xl asks for them (libxlu_cfg.c).

A setting of the wrong kind is as good as none: xl prints a warning and goes on, and so it is here,
with the warnings in a list.  What xl refuses is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xenqemu.errors import FormatError
from xenqemu.formats.config.xl_cfg_syntax import (
    Number,
    Setting,
    Value,
    decoded,
    error_at,
    long_value,
    parse,
)

XEN_4_17, XEN_4_20 = (4, 17), (4, 20)
_TYPES = {"hvm": "hvm", "pv": "pv", "pvh": "pvh"}
_BUILDERS = {"hvm": "hvm", "generic": "pv"}
I32, U32, U64 = 1 << 31, (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True)
class XlHost:
    """What the answer of xl depends on besides the file: the host's CPUs, and xl's release.

    The releases differ little.  What only the newer one knows is read for both, so that nothing
    of a file is lost.
    """

    cpus: int = 8
    release: tuple[int, int] = XEN_4_17


LAB_HOST = XlHost()


class XlCfgSettings:
    """The settings of a text, with xl's getters; a name that is not set is answered with None.

    `warnings` has what xl would warn of so far, each with its line.
    """

    def __init__(self, text: str | bytes, host: XlHost = LAB_HOST) -> None:
        self._text = decoded(text)
        self._settings = parse(self._text)
        self._asked: set[str] = set()
        self.host = host
        self.warnings: list[str] = []

    def plain(self) -> dict[str, Value]:
        """Return all that is set: numbers that C can read as int, all else unchanged."""
        return {name: _plain(setting.value) for name, setting in self._settings.items()}

    def unasked(self) -> list[str]:
        """Return the names that are set and were not asked for."""
        return [name for name in self._settings if name not in self._asked]

    def is_set(self, name: str) -> bool:
        """Return whether a name is set, to whatever it may be."""
        return self._find(name) is not None

    def is_list(self, name: str) -> bool:
        """Return whether a name is set to a list."""
        setting = self._find(name)
        return setting is not None and setting.many

    def string(self, name: str, *, quiet: bool = False) -> str | None:
        """Return a string (a number's spelling is one)."""
        setting = self._find(name)
        if setting is None:
            return None
        if setting.many:
            self._ignore(name, "a list, which should be one value", quiet=quiet)
            return None
        return self._utf8(name, str(setting.value))

    def number(self, name: str, *, quiet: bool = False) -> int | None:
        """Return a number of 64 bits."""
        text = self.string(name, quiet=quiet)
        if text is None:
            return None
        if self._settings[name].added:
            self._ignore(name, "a number, which cannot be added to", quiet=quiet)
            return None
        value = long_value(text)
        if value is None:
            self._ignore(name, f"{text[:40]!r}, which is no number", quiet=quiet)
        return value

    def flag(self, name: str) -> str | None:
        """Return what libxl calls a number that is zero or not: "False" or "True"."""
        value = self.number(name)
        return None if value is None else str(value != 0)

    def items(self, name: str, *, quiet: bool = False) -> list[Value] | None:
        """Return a list of whatever it may be."""
        setting = self._find(name)
        if setting is None:
            return None
        if not setting.many:
            self._ignore(name, "one value, which should be a list", quiet=quiet)
            return None
        return [self._checked(name, item) for item in setting.parts]

    def texts(self, name: str, *, quiet: bool = False) -> list[str] | None:
        """Return the strings of a list, up to what is none: there xl ends reading."""
        items = self.items(name, quiet=quiet)
        if items is None:
            return None
        found: list[str] = []
        for item in items:
            if isinstance(item, list):
                self._ignore(name, f"item {len(found) + 1} and what follows, which is no string")
                break
            found.append(str(item))
        return found

    def all_texts(self, name: str) -> list[str]:
        """Return the strings of a list, of which every item has to be one."""
        items = self.items(name) or []
        if any(isinstance(item, list) for item in items):
            raise self.wrong(name, "a list of strings", "a list in it")
        return [str(item) for item in items]

    def warn(self, name: str, text: str) -> None:
        """Note what xl warns of."""
        self.warnings.append(f"{self._error(name, '', '').record}: {name}: {text}")

    def wrong(self, name: str, expected: str, got: str) -> FormatError:
        """Return the error for a name's value; an unset name is missing at the end."""
        return self._error(name, f"{name}: {expected}", got)

    def bad(self, name: str, expected: str, text: object) -> FormatError:
        """Return the error for a name's value, or a part of it, that is `text`."""
        return self.wrong(name, expected, repr(str(text)[:40]))

    @cached_property
    def type(self) -> str:
        """The kind of guest, as `type` and, in old files, `builder` say; "pv" if neither does.

        xl takes the beginning of a word for it.
        """
        kind, builder = self._kind("type", _TYPES), self._kind("builder", _BUILDERS)
        if kind and builder and kind != builder:
            raise self.bad("builder", f"what type says, {kind}", builder)
        return builder or kind or "pv"

    def _kind(self, name: str, words: Mapping[str, str]) -> str | None:
        said = self.string(name)
        if said is None:
            return None
        for word, kind in words.items():
            if word.startswith(said):
                return kind
        raise self.bad(name, "one of " + ", ".join(words), said)

    def _find(self, name: str) -> Setting | None:
        self._asked.add(name)
        return self._settings.get(name)

    def _ignore(self, name: str, what: str, *, quiet: bool = False) -> None:
        if not quiet:
            self.warn(name, f"{what}, is ignored, as by xl")

    def _checked(self, name: str, item: Value) -> Value:
        if isinstance(item, list):
            return [self._checked(name, each) for each in item]
        return self._utf8(name, str(item))

    def _utf8(self, name: str, text: str) -> str:
        """Return what can be carried in JSON."""
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise self.wrong(name, "UTF-8", ascii(text[:40]))
        return text

    def _error(self, name: str, expected: str, got: str) -> FormatError:
        setting = self._settings.get(name)
        index = len(self._text) if setting is None else setting.index
        return error_at(self._text, index, expected, got)


def wrapped(value: int) -> int:
    """Return a long as C puts it into an int."""
    return (value + I32) % (1 << 32) - I32


def _plain(value: Value) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    number = long_value(value) if isinstance(value, Number) else None
    return value if number is None else number
