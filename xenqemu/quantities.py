"""Times and sizes in the words of people, and back."""

from __future__ import annotations

import re

_TIMES = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_TIME = re.compile("".join(f"(?:{_PART}{unit})?" for unit in _TIMES), re.ASCII)
_SECONDS = re.compile(_PART, re.ASCII)

_SIZE = re.compile(r"([0-9]{1,15})([KMGT]?)(iB|B|)", re.ASCII | re.IGNORECASE)

_STEPS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def seconds_of(text: str) -> float | None:
    """Return the seconds of "90", "1.5", "300ms", "5m" or "1h30m"; None for other words."""
    if _SECONDS.fullmatch(text):
        return float(text)
    found = _TIME.fullmatch(text) if text else None
    if found is None:
        return None
    parts = zip(found.groups("0"), _TIMES.values(), strict=True)
    return sum(float(part) * seconds for part, seconds in parts)


def bytes_of(text: str) -> int | None:
    """Return the bytes of "4096", "100M" or "100MiB" (of 1024), "100MB" (of 1000); else None.

    So does virsh read sizes.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        return None
    count, prefix, unit = found.groups()
    if unit.lower() == "ib" and not prefix:
        return None
    step = 1000 if prefix and unit.lower() == "b" else 1024
    return int(count) * int(step ** " KMGT".index(prefix.upper() or " "))


def in_bytes(count: float) -> str:
    """Return a number of bytes with a unit, in three digits or four: "512 bytes", "1.25 GiB"."""
    unit = 0
    while count >= 1024 and unit < len(_STEPS) - 1:
        count /= 1024
        unit += 1
    if unit == 0:
        return f"{count:.0f} byte{'' if count == 1 else 's'}"
    digits = 2 if count < 10 else 1 if count < 100 else 0
    return f"{count:.{digits}f} {_STEPS[unit]}"


def in_time(seconds: float) -> str:
    """Return a time in two units at most: "12 ms", "4.2 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, below, name, smaller in ((60, 3600, "min", "s"), (3600, 86400, "h", "min")):
        if whole < below:
            return f"{whole // unit} {name} {whole % unit // (unit // 60)} {smaller}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
