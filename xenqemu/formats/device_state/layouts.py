"""How many bytes a QEMU device writes: the patterns of layouts.json, applied to a stream.

The table is made by scripts/make_vmstate_table.py.  It has, for each device (the name of its
VMStateDescription) and version, one or more patterns; a pattern is a list of items::

    17                          so many bytes
    "serial"                    here the subsections of that structure may be
    "@config"                   the configuration space of a PCI device
    "@express"                  that of a device that is a PCI Express one on any bus
    "@msix"                     the MSI-X table and pending bits, if the device has MSI-X
    "@zero1" "@zero4"           a list of requests in flight, measurable only if empty
    "@bool"                     a byte that is 0 or 1
    "@keep4" "@kept"            a number of 4 bytes; later so many bytes
    "@open"                     of unknown length
    {"count": 4, "of": […]}     a number of 4 bytes, then so many times the pattern
    {"up_to": 30, "of": [4]}    0 to 30 times the pattern: the number is not in the stream
    {"any": [[…], […]]}         one of these patterns
    {"msix": […]}               the pattern, if the device has MSI-X

A subsection is written as ::

    u8 0x05, u8 length, name, u32 version (big-endian), its fields, its subsections

and recognised where QEMU's loader does (vmstate_subsection_load of migration/vmstate.c): by 0x05
and a name that begins with the name of the structure before it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

from xenqemu.frozen import Frozen

SUBSECTION = 0x05
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$")
MOST_ELEMENTS = 512
"""Elements of varying size that are walked one by one (ports of virtio-serial, at most)."""

PCI_CONFIG = 256
PCIE_CONFIG = 4096
PCI_CAPABILITIES = 0x34
CAPABILITY_EXPRESS = 0x10
CAPABILITY_MSIX = 0x11
MOST_CAPABILITIES = 48

ON_PCI = frozenset({"@config", "@express"})
"""What only the patterns of PCI devices have."""

Pattern = list[Any]


class Extent(Frozen):
    """Where the state of a device that starts at some offset may end.

    `ends` are the offsets that the patterns lead to.  `measured` is False where a pattern meets
    what cannot be measured, or where there is no pattern: the state may then end anywhere from
    `least` on.  `cut` is whether a pattern needs more bytes than there are.
    """

    ends: frozenset[int]
    measured: bool
    least: int
    cut: bool


class _Place(NamedTuple):
    """A point in the stream; where the PCI configuration before it starts (-1: none).

    `kept` is the number of the last "@keep4".
    """

    offset: int
    config: int
    kept: int = 0


TABLE = f"{__file__.rpartition('/')[0]}/layouts.json"
_loader: Any = (
    __spec__.loader
)  # of a folder, or of xenqemu.pyz, which wants its name as it was given


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_loader.get_data(TABLE))
    return table


def known_qemu() -> tuple[str, ...]:
    """Return the versions of QEMU that the table was made from."""
    return tuple(_table()["qemu"])


def extent(data: bytes, start: int, idstr: str, version: int) -> Extent:
    """Return where the state that starts at `start` of `data` may end.

    `idstr` is the device's path, where it has one, "/" and the name of its VMStateDescription.
    """
    path, _, device = idstr.rpartition("/")
    patterns = _table()["devices"].get(device, {}).get(str(version))
    if patterns is None:
        return Extent(frozenset(), False, start, False)
    on_pci = PCI_ADDRESS.search(path) is not None
    fitting = [pattern for pattern in patterns if bool(ON_PCI & _tokens(pattern)) == on_pci]
    walk = _Walk(data, start)
    places = walk.any_of(fitting or patterns, {_Place(start, -1)})
    return Extent(frozenset(p.offset for p in places), walk.measured, walk.least, walk.cut)


def _tokens(pattern: Pattern) -> frozenset[str]:
    return frozenset(item for item in pattern if isinstance(item, str))


class _Walk:
    """Patterns applied to a stream: each step takes a set of places to the set that follows."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data = data
        self.measured = True
        self.least = start
        self.cut = False
        self.steps: dict[str, Callable[[_Place], Iterable[_Place]]] = {
            "@config": self._config,
            "@express": self._express,
            "@msix": self._msix,
            "@zero1": lambda place: self._zeros(place, 1),
            "@zero4": lambda place: self._zeros(place, 4),
            "@bool": self._bool,
            "@keep4": self._keep,
            "@kept": lambda place: self._bytes(place, place.kept),
            "@open": self._open,
        }

    def any_of(self, patterns: list[Pattern], places: set[_Place]) -> set[_Place]:
        """Return where any of `patterns` leads from any of `places`."""
        return {place for pattern in patterns for place in self._run(pattern, places)}

    def _run(self, pattern: Pattern, places: set[_Place]) -> set[_Place]:
        for item in pattern:
            places = {after for place in places for after in self._step(item, place)}
        return places

    def _step(self, item: Any, place: _Place) -> Iterable[_Place]:
        if isinstance(item, int):
            return self._bytes(place, item)
        if isinstance(item, dict):
            return self._group(item, place)
        if item in self.steps:
            return self.steps[item](place)
        return self._subsections(item, place)

    def _bytes(self, place: _Place, size: int) -> list[_Place]:
        if place.offset + size <= len(self.data):
            return [place._replace(offset=place.offset + size)]
        self.cut = True
        return []

    def _open(self, place: _Place) -> list[_Place]:
        self.least = place.offset if self.measured else min(self.least, place.offset)
        self.measured = False
        return []

    def _bool(self, place: _Place) -> list[_Place]:
        after = self._bytes(place, 1)
        return after if self.data[place.offset : place.offset + 1] in (b"\0", b"\1") else []

    def _zeros(self, place: _Place, size: int) -> list[_Place]:
        after = self._bytes(place, size)
        empty = not any(self.data[place.offset : place.offset + size])
        return after if empty else self._open(place)

    def _keep(self, place: _Place) -> list[_Place]:
        number = int.from_bytes(self.data[place.offset : place.offset + 4], "big")
        return self._bytes(place._replace(kept=number), 4)

    def _group(self, item: dict[str, Any], place: _Place) -> Iterable[_Place]:
        if "any" in item:
            return self.any_of(item["any"], {place})
        if "msix" in item:
            return self._run(item["msix"], {place}) if self._vectors(place) else [place]
        if "up_to" in item:
            return self._repeated(item["up_to"], item["of"], place)
        return self._counted(item["count"], item["of"], place)

    def _counted(self, width: int, pattern: Pattern, place: _Place) -> Iterable[_Place]:
        after = self._bytes(place, width)
        count = int.from_bytes(self.data[place.offset : place.offset + width], "big")
        size = self._size(pattern, place)
        if size is not None:
            return [end for start in after for end in self._bytes(start, count * size)]
        if count > MOST_ELEMENTS:
            return []
        places = set(after)
        for _ in range(count):
            places = self._run(pattern, places)
        return places

    def _size(self, pattern: Pattern, place: _Place) -> int | None:
        """Return how many bytes the pattern takes, None if that depends on their values."""
        sizes = []
        for item in pattern:
            if isinstance(item, dict) and "msix" in item:
                sizes.append(sum(item["msix"]) if self._vectors(place) else 0)
            elif isinstance(item, int):
                sizes.append(item)
            else:
                return None
        return sum(sizes)

    def _repeated(self, most: int, pattern: Pattern, place: _Place) -> set[_Place]:
        places, done = {place}, {place}
        for _ in range(most):
            places = self._run(pattern, places)
            done |= places
        return done

    def _config(self, place: _Place) -> list[_Place]:
        config = place._replace(config=place.offset)
        express = self._capability(config, CAPABILITY_EXPRESS) is not None
        return self._bytes(config, PCIE_CONFIG if express else PCI_CONFIG)

    def _express(self, place: _Place) -> list[_Place]:
        return self._bytes(place._replace(config=place.offset), PCIE_CONFIG)

    def _msix(self, place: _Place) -> list[_Place]:
        vectors = self._vectors(place)
        return self._bytes(place, 16 * vectors + (vectors + 7) // 8)

    def _vectors(self, place: _Place) -> int:
        """Return how many MSI-X vectors the device has; 0 if none."""
        offset = self._capability(place, CAPABILITY_MSIX)
        if offset is None:
            return 0
        return (int.from_bytes(self.data[offset + 2 : offset + 4], "little") & 0x7FF) + 1

    def _capability(self, place: _Place, wanted: int) -> int | None:
        """Return the offset of a capability in the PCI configuration, None if it has none."""
        config = self.data[place.config : place.config + PCI_CONFIG]
        if place.config < 0 or len(config) < PCI_CONFIG:
            return None
        pointer = config[PCI_CAPABILITIES] & ~3
        for _ in range(MOST_CAPABILITIES):
            if not pointer:
                break
            if config[pointer] == wanted:
                return place.config + pointer
            pointer = config[pointer + 1] & ~3
        return None

    def _subsections(self, parent: str, place: _Place) -> set[_Place]:
        """Return the places after the subsections of `parent`, as many as there are."""
        known = _table()["subsections"][parent]
        done: set[_Place] = set()
        places = {place}
        for _ in range(len(known) + 1):
            following: set[_Place] = set()
            for here in places:
                after = self._subsection(parent, known, here)
                if after is None:
                    done.add(here)
                else:
                    following |= after
            places = following
        return done

    def _subsection(self, parent: str, known: dict[str, Any], place: _Place) -> set[_Place] | None:
        """Return the places after the one subsection that is here, None if none is."""
        data, offset = self.data, place.offset
        if data[offset : offset + 1] != bytes([SUBSECTION]):
            return None
        length = data[offset + 1] if offset + 1 < len(data) else len(parent) + 1
        name = data[offset + 2 : offset + 2 + length]
        if length <= len(parent) or not parent.encode().startswith(name[: len(parent)]):
            return None
        version = int.from_bytes(data[offset + 2 + length : offset + 6 + length], "big")
        starts = self._bytes(place, length + 6)
        patterns = known.get(name.decode("latin-1"), {}).get(str(version))
        if starts and patterns is None:
            self._open(place)
            return set()
        return self.any_of(patterns, set(starts)) if starts else set()
