r"""The JSON that libxl writes: its form, its bounds, and its typed fields.

yajl's beautified form (libxl of Xen 4.20 and before): four spaces a level, an empty line in empty
objects and arrays, \u001F for control characters.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

from xenqemu.errors import BadRecord, TooBig
from xenqemu.frozen import Frozen

MAX_JSON = 1 << 20
"""Bytes of a configuration at most; libxl's own have a few thousand."""
MAX_DEPTH = 32
"""Objects and arrays in each other at most; libxl's own have six."""

WHERE = "domain config"
U31, U32, U64 = (1 << 31) - 1, (1 << 32) - 1, (1 << 64) - 1
_ESCAPES = {code: f"\\u{code:04X}" for code in range(32)} | {
    ord(plain): "\\" + letter for plain, letter in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}


def dumped(value: object, indent: str = "") -> str:
    """Return `value` in yajl's beautified form, without the LF at its end."""
    inner = indent + "    "
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    if isinstance(value, Mapping):
        pairs = [f"{dumped(str(key))}: {dumped(item, inner)}" for key, item in value.items()]
        return _bracketed("{}", pairs, indent)
    if isinstance(value, list | tuple):
        return _bracketed("[]", [dumped(item, inner) for item in value], indent)
    return json.dumps(value, allow_nan=False)


def _bracketed(brackets: str, items: list[str], indent: str) -> str:
    body = ",\n".join(f"{indent}    {item}" for item in items)
    return f"{brackets[0]}\n{body}\n{indent}{brackets[1]}"


def loaded(data: bytes, where: str = WHERE) -> Any:
    """Return the value of JSON bytes, no object of which has a key twice.

    `where` is what errors call them.
    """
    if len(data) > MAX_JSON:
        raise TooBig(where, 0, f"at most {MAX_JSON} bytes", str(len(data)))
    try:
        text = data.decode()
        return json.loads(text, object_pairs_hook=partial(_object, where))
    except UnicodeDecodeError as error:
        raise BadRecord(where, error.start, "UTF-8", error.reason) from error
    except json.JSONDecodeError as error:
        offset = len(text[: error.pos].encode())
        raise BadRecord(where, offset, "JSON", error.msg) from error
    except RecursionError as error:
        raise _too_deep(where) from error
    except ValueError as error:  # an integer of thousands of digits
        raise BadRecord(where, 0, "numbers of 64 bits", str(error)) from error


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise BadRecord(where, 0, "each key once", ascii(twice[:40]))
    return value


def _too_deep(where: str) -> TooBig:
    return TooBig(where, 0, f"at most {MAX_DEPTH} levels", "more")


def check(value: object, depth: int) -> None:
    """Raise for what is a value of Python, but not of JSON, C strings, UTF-8, or too deep."""
    if depth > MAX_DEPTH:
        raise _too_deep(WHERE)
    if isinstance(value, Mapping):
        check([*value.keys(), *value.values()], depth)
    elif isinstance(value, list | tuple):
        for item in value:
            check(item, depth + 1)
    elif isinstance(value, str):
        if any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise BadRecord(WHERE, 0, "text without NUL and surrogates", ascii(value[:40]))
    elif not (value is None or (isinstance(value, int | float) and -U64 <= value <= U64)):
        raise BadRecord(WHERE, 0, "text, or finite numbers of 64 bits", ascii(value)[:40])


class JsonObject(Frozen):
    """The fields of a JSON object by name; wrong types raise `BadRecord`."""

    where: str
    fields: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, value: object) -> JsonObject:
        """Return `value`, which must be an object found at `where`."""
        if not isinstance(value, Mapping):
            raise BadRecord(where, 0, "an object", _name(value))
        return cls(where, value)

    def section(self, key: str) -> JsonObject:
        """Return the object under `key`."""
        return JsonObject.of(f"{self.where} {key}", self.fields.get(key))

    def optional(self, key: str) -> JsonObject:
        """Return the object under `key`, an empty one if there is none."""
        return self.section(key) if key in self.fields else JsonObject(f"{self.where} {key}", {})

    def array(self, key: str) -> list[Any]:
        """Return the array under `key`, an empty one if there is none."""
        value = self.fields.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "an array", value)
        return value

    def sections(self, key: str) -> list[JsonObject]:
        """Return the objects of an array."""
        places = enumerate(self.array(key))
        return [JsonObject.of(f"{self.where} {key}[{place}]", value) for place, value in places]

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the strings of an array."""
        values = self.array(key)
        if not all(isinstance(value, str) for value in values):
            raise self.wrong(key, "an array of strings", values)
        return tuple(values)

    def text(self, key: str) -> str | None:
        """Return a string."""
        value = self.fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "a string", value)
        return value

    def required(self, key: str) -> str:
        """Return a string that must be there and not be empty."""
        value = self.text(key)
        if not value:
            raise self.wrong(key, "a string that is not empty", value)
        return value

    def number(self, key: str, high: int) -> int | None:
        """Return an integer from 0 to `high`."""
        value = self.fields.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
            raise self.wrong(key, f"an integer from 0 to {high}", value)
        return value

    def choice(self, key: str, words: Mapping[Any, Any] | tuple[str, ...]) -> Any:
        """Return one of `words`, or what they map it to."""
        value = self.fields.get(key)
        if isinstance(value, list | dict) or value not in words:
            raise self.wrong(key, "one of " + ", ".join(map(str, words)), value)
        return words[value] if isinstance(words, Mapping) else value

    def wrong(self, key: str, expected: str, got: object) -> BadRecord:
        """Return the error for the value of `key`."""
        return BadRecord(f"{self.where} {key}", 0, expected, _name(got))


def _name(value: object) -> str:
    """Return a short name of a JSON value for an error."""
    names = {dict: "an object", list: "an array", type(None): "nothing"}
    return names.get(type(value)) or ascii(value)[:40]
