r"""The text of an xl.cfg file: names and what they are set to.

::

    file        [ assignment ] { ( NEWLINE | ";" ) [ assignment ] }
    assignment  NAME ( "=" | "+=" ) value
    value       STRING | NUMBER | "[" { NEWLINE } [ items ] "]"
    items       value { NEWLINE } { "," { NEWLINE } value { NEWLINE } } [ "," { NEWLINE } ]
    NAME        [a-z][._0-9a-z]*
    NUMBER      [0-9][0-9a-fx]*                          C's spellings: 10, 0x0a, 012
    STRING      '…' or "…" on one line; escapes \\ \' \" \a \b \f \n \r \t \v
    NEWLINE     LF, or "#" and the rest of a line with its LF

The grammar is libxlu's (libxlu_cfg_l.l, libxlu_cfg_y.y), which knows text only: `memory = "64"`
and `name = 5` are good there and here.  What libxlu refuses is refused.  Its numeric escapes
(\x41 is an error in it, \101 vanishes) are refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from xenqemu.errors import BadRecord, FormatError, TooBig

Value: TypeAlias = "str | int | list[Value]"
T = TypeVar("T")

MAX_TEXT = 1 << 20
"""Bytes of a configuration at most; xl's own examples have a few hundred."""
MAX_DEPTH = 16
"""Lists in lists at most; no key of xl has more than two."""

_TOKEN = re.compile(
    r"""[ \t]*+(?:(?P<end>\Z)|(?P<newline>\n|\#[^\n]*+\n)|(?P<name>[a-z][._0-9a-z]*+)
    |(?P<number>[0-9][0-9a-fx]*+)|(?P<mark>\+=|[=;,\[\]])
    |(?P<string>'(?:[^'\\\n\0]|\\[^\n\0])*+'|"(?:[^"\\\n\0]|\\[^\n\0])*+"))""",
    re.VERBOSE,
)
_ESCAPES = {"\\": "\\", "'": "'", '"': '"'} | dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True))
_LONG = re.compile(
    r"\s*(?P<sign>[+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)"
    r"|(?P<decimal>[1-9][0-9]{0,18}))",
    re.ASCII,
)
_BASES = {"hex": 16, "octal": 8, "decimal": 10}


class _Number(str):
    """A bare NUMBER: text, as in libxlu, until its value is read."""

    __slots__ = ()


def long_value(text: str) -> int | None:
    """Return the value of all of `text` by C's strtol with base 0, None if it has none."""
    match = _LONG.fullmatch(text)
    if match is None or match.lastgroup is None:
        return None
    value = int(match["sign"] + match[match.lastgroup], _BASES[match.lastgroup])
    return value if -(1 << 63) <= value < 1 << 63 else None


def _error(text: str, index: int, expected: str, got: str) -> BadRecord:
    line = text.count("\n", 0, index) + 1
    return BadRecord(f"xl.cfg line {line}", len(text[:index].encode()), expected, got)


class _Tokens:
    """The words of the text, one at a time; `kind` and `word` are of the one at `index`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._next = 0
        self.advance()

    def advance(self) -> None:
        """Go to the next word."""
        match = _TOKEN.match(self.text, self._next)
        if match is None or match.lastgroup is None:
            self.index = len(self.text) - len(self.text[self._next :].lstrip(" \t"))
            self.word = self.text[self.index : self.index + 1]
            raise self.wrong("a name, a value, a mark or a whole line of comment")
        self.word = match[match.lastgroup]
        self.kind = self.word if match.lastgroup == "mark" else match.lastgroup
        self.index = match.start(match.lastgroup)
        self._next = match.end()

    def take(self, *kinds: str) -> str:
        """Return the present word, which must be of one of `kinds`, and go to the next."""
        word = self.word
        if self.kind not in kinds:
            raise self.wrong(" or ".join(kinds))
        self.advance()
        return word

    def skip_newlines(self) -> None:
        """Go to the next word that is no newline."""
        while self.kind == "newline":
            self.advance()

    def wrong(self, expected: str) -> BadRecord:
        """Return the error for the present word."""
        return _error(self.text, self.index, expected, repr(self.word[:40]) if self.word else "end")


@dataclass
class _Setting:
    """The value of a name so far: pieces of one string, or items of one list."""

    index: int
    many: bool
    added: bool
    parts: list[Value]

    @property
    def value(self) -> Value:
        if self.many:
            return self.parts
        return self.parts[0] if len(self.parts) == 1 else "".join(map(str, self.parts))


def _read(tokens: _Tokens) -> dict[str, _Setting]:
    settings: dict[str, _Setting] = {}
    while True:
        if tokens.kind == "name":
            _assignment(tokens, settings)
        if tokens.kind == "end":
            return settings
        tokens.take("newline", ";")


def _assignment(tokens: _Tokens, settings: dict[str, _Setting]) -> None:
    name, index = tokens.take("name"), tokens.index
    added = tokens.take("=", "+=") == "+="
    start = tokens.index
    value = _value(tokens, 0)
    many = isinstance(value, list)
    parts: list[Value] = value if isinstance(value, list) else [value]
    before = settings.get(name)
    if added and before is not None:
        if before.many != many:
            raise _error(tokens.text, start, "list += list or string += string", "a mixture")
        before.parts.extend(parts)  # in place: a long file of += stays linear
        parts = before.parts
    settings[name] = _Setting(index, many, added, parts)


def _value(tokens: _Tokens, depth: int) -> Value:
    if tokens.kind == "number":
        return _Number(tokens.take("number"))
    if tokens.kind == "[":
        return _list(tokens, depth + 1)
    if tokens.kind != "string":
        raise tokens.wrong("a string, a number or a list")
    value = _dequoted(tokens)
    tokens.advance()
    return value


def _list(tokens: _Tokens, depth: int) -> list[Value]:
    if depth > MAX_DEPTH:
        error = tokens.wrong(f"at most {MAX_DEPTH} lists in lists")
        raise TooBig(error.record, error.offset, error.expected, error.got)
    items: list[Value] = []
    tokens.take("[")
    tokens.skip_newlines()
    while tokens.kind != "]":
        items.append(_value(tokens, depth))
        tokens.skip_newlines()
        if tokens.kind != "]":
            tokens.take(",")
            tokens.skip_newlines()
    tokens.advance()
    return items


def _dequoted(tokens: _Tokens) -> str:
    def plain(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            index = tokens.index + 1 + match.start()
            raise _error(tokens.text, index, "an escape that xl understands", repr(match[0]))
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", plain, tokens.word[1:-1])


def _plain(value: Value) -> Value:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    number = long_value(value) if isinstance(value, _Number) else None
    return value if number is None else number


def _decoded(text: str | bytes) -> str:
    if len(text) > MAX_TEXT:
        raise TooBig("xl.cfg", 0, f"at most {MAX_TEXT} bytes", str(len(text)))
    try:
        return text.decode() if isinstance(text, bytes) else text.encode().decode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise BadRecord("xl.cfg", error.start, "UTF-8", error.reason) from error


class XlCfgSettings:
    """The settings of a text, with xl's getters; each raises `BadRecord` for a wrong type.

    A name that is not set is answered with None or an empty tuple.
    """

    def __init__(self, text: str | bytes) -> None:
        self._text = _decoded(text)
        self._settings = _read(_Tokens(self._text))
        self._asked: set[str] = set()

    def plain(self) -> dict[str, Value]:
        """Return all that is set: numbers that C can read as int, all else unchanged."""
        return {name: _plain(setting.value) for name, setting in self._settings.items()}

    def unasked(self) -> dict[str, Value]:
        """Return what is set and was not read."""
        return {name: value for name, value in self.plain().items() if name not in self._asked}

    def get(self, name: str) -> Value | None:
        """Return the value as libxlu has it: a string or a list."""
        self._asked.add(name)
        setting = self._settings.get(name)
        return None if setting is None else setting.value

    def string(self, name: str) -> str | None:
        """Return a string (a number's spelling is one)."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "one value", "a list")
        return None if value is None else str(value)

    def number(self, name: str, low: int, high: int) -> int | None:
        """Return a number from `low` to `high`."""
        text = self.string(name)
        if text is None:
            return None
        value = None if self._settings[name].added else long_value(text)
        if value is None or not low <= value <= high:
            raise self.wrong(name, f"a number from {low} to {high}", repr(text[:40]))
        return value

    def flag(self, name: str) -> bool | None:
        """Return whether a number is not zero."""
        value = self.number(name, -(1 << 63), (1 << 63) - 1)
        return None if value is None else bool(value)

    def choice(self, name: str, words: Mapping[str, T]) -> T | None:
        """Return what `words` maps a string to."""
        text = self.string(name)
        if text is not None and text not in words:
            raise self.wrong(name, "one of " + ", ".join(words), repr(text[:40]))
        return None if text is None else words[text]

    def items(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self.get(name)
        if value is None:
            return ()
        if isinstance(value, str | int) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a list of strings", "something else")
        return tuple(map(str, value))

    def item_or_items(self, name: str) -> tuple[str, ...]:
        """Return a list of strings, or one string as a list of one."""
        value = self.get(name)
        return (str(value),) if isinstance(value, str) else self.items(name)

    def specs(self, name: str, parse: Callable[[str, int], T]) -> tuple[T, ...]:
        """Return `parse(string, its place)` for each of a list of strings."""
        found = []
        for place, spec in enumerate(self.items(name)):
            try:
                found.append(parse(spec, place))
            except FormatError as error:
                at = self.wrong(name, error.expected, error.got)
                raise type(error)(at.record, at.offset, at.expected, at.got) from error
        return tuple(found)

    def wrong(self, name: str, expected: str, got: str) -> BadRecord:
        """Return the error for a name's value; an unset name is missing at the end."""
        setting = self._settings.get(name)
        index = len(self._text) if setting is None else setting.index
        return _error(self._text, index, f"{name}: {expected}", got)
