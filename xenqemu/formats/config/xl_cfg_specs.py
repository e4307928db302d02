"""The parts of a device's spec, one string in a list of an xl.cfg, and C's numbers in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from xenqemu.formats.config.xl_cfg_rows import present
from xenqemu.formats.config.xl_cfg_settings import U64, XlCfgSettings, wrapped

Take = Callable[[str], Any]
"""Makes a field of the text of a value; raises `ValueError` with what was expected."""

C_BLANKS = " \t\n\v\f\r"
_DIGITS = r"(?P<hex>0[xX][0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*)"
_ULONG = {
    0: re.compile(rf"[{C_BLANKS}]*(?P<sign>[+-]?)(?:{_DIGITS})"),
    10: re.compile(rf"[{C_BLANKS}]*(?P<sign>[+-]?)(?P<decimal>[0-9]+)"),
    16: re.compile(rf"[{C_BLANKS}]*(?P<sign>[+-]?)(?:0[xX](?=[0-9a-fA-F]))?(?P<hex>[0-9a-fA-F]+)"),
}
_INT = re.compile(rf"[{C_BLANKS}]*([+-]?[0-9]{{1,64}})")
_BASES = {"hex": 16, "octal": 8, "decimal": 10}
_MAX_DIGITS = 64
"""Digits of a number at most that is read: Python refuses thousands of them."""


def ulong(text: str, base: int) -> tuple[int, str] | None:
    """Return C's strtoul of the beginning of `text`, and the rest; None if there is no number.

    What is too big is ULONG_MAX.
    """
    match = _ULONG[base].match(text)
    if match is None or match.lastgroup is None:
        return None
    digits = match[match.lastgroup].lstrip("0xX") or "0"
    value = int(digits, _BASES[match.lastgroup]) if len(digits) <= _MAX_DIGITS else U64 + 1
    if value > U64:
        return U64, text[match.end() :]
    return (-value & U64 if match["sign"] == "-" else value), text[match.end() :]


def lenient_ulong(text: str) -> int:
    """Return C's strtoul(text, NULL, 0): 0 where there is no number."""
    found = ulong(text, 0)
    return found[0] if found else 0


def atoi(text: str) -> int:
    """Return C's atoi: 0 where there is no number."""
    match = _INT.match(text)
    value = int(match[1]) if match else 0
    return wrapped(max(-(1 << 63), min(value, (1 << 63) - 1)))


def pieces(spec: str, mark: str = ",") -> Iterator[str]:
    """Yield what stands between marks, as C's strtok: empty pieces are passed over."""
    yield from filter(None, spec.split(mark))


def options(spec: str) -> Iterator[tuple[str, str, str]]:
    """Yield each piece of a spec without the blanks before it, and its key and value.

    The key is empty where a piece has no "=".
    """
    for piece in pieces(spec):
        stripped = piece.lstrip(" ")
        key, equals, value = stripped.partition("=")
        yield (stripped, key, value) if equals else (stripped, "", "")


def pair(cfg: XlCfgSettings, name: str, piece: str) -> tuple[str, str]:
    """Return the two sides of a "=" without the blanks around them, as `split_string_into_pair`.

    xl 4.17 ends the right side at a second "=".
    """
    left, _, right = piece.lstrip("=" if cfg.host.release < (4, 18) else "").partition("=")
    if cfg.host.release < (4, 18):
        right = next(pieces(right, "="), "")
    if not right:
        raise cfg.bad(name, "key=value", piece)
    return left.strip(C_BLANKS), right.strip(C_BLANKS)


def taken(cfg: XlCfgSettings, name: str, take: Take, text: str) -> Any:
    """Return what `take` makes of a value; its error says which line it is from."""
    try:
        return take(text)
    except ValueError as error:
        raise cfg.bad(name, str(error), text) from error


def as_text(text: str) -> str:
    """Take a value as it is."""
    return text


def as_bool(text: str) -> bool | None:
    """Take a C number as a bool that is left out where it is false."""
    return True if lenient_ulong(text) else None


def as_defbool(text: str) -> str:
    """Take a number of atoi's as a libxl_defbool."""
    return str(atoi(text) != 0)


def as_count(text: str) -> int | None:
    """Take a number of strtoul's as 32 bits."""
    return lenient_ulong(text) & 0xFFFFFFFF or None


def as_int(text: str) -> int | None:
    """Take a number of atoi's."""
    return atoi(text) or None


def as_word(words: Mapping[str, Any]) -> Take:
    """Take one of libxl's words, in small or capital letters."""

    def take(text: str) -> Any:
        if text.lower() not in words:
            raise ValueError("one of " + ", ".join(words))
        return words[text.lower()]

    return take


def in_order(order: tuple[str, ...], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a device in libxl's order, without what is None."""
    return present((name, fields.get(name)) for name in order)
