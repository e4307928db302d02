"""Device states made by the table of layouts, so that each pattern in it is walked.

Every device of every version becomes a stream of its own, its state filled by its pattern: plain
bytes are zeros, of what may be there in any number there is one, and subsections are all there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import Any

from xenqemu.formats import device_state
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.layouts import (
    CAPABILITY_MSIX,
    PCI_CAPABILITIES,
    PCI_CONFIG,
    PCIE_CONFIG,
    SUBSECTION,
)

CAPABILITY_AT = 0x40
VECTORS = 3


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(
        resources.files(device_state).joinpath("layouts.json").read_bytes()
    )
    return table


def streams() -> Iterator[bytes]:
    """Yield a stream for each pattern, with what ends a stream in the way of all others."""
    for device, versions in sorted(_table()["devices"].items()):
        for version, patterns in versions.items():
            for pattern in patterns:
                path = "0000:00:05.0/" if {"@config", "@express"} & tokens(pattern) else ""
                section = device_stream.Section(
                    1, f"{path}{device}", 0, int(version), filled(pattern)
                )
                port = device_stream.Section(9, "port92", 0, 1, b"\1")
                yield device_stream.write([section, port])


def tokens(pattern: list[Any]) -> set[str]:
    return {item for item in pattern if isinstance(item, str)}


def filled(pattern: list[Any]) -> bytes:
    """Return bytes that fit a pattern."""
    return b"".join(map(_item, pattern))


def _item(item: Any) -> bytes:
    if isinstance(item, int):
        return bytes(item)
    if isinstance(item, dict):
        return _group(item)
    if item == "@config":
        return _config()
    if item == "@express":
        return _config() + bytes(PCIE_CONFIG - PCI_CONFIG)
    if item == "@msix":
        return bytes(16 * VECTORS + 1)
    if item.startswith("@"):
        return bytes({"@zero4": 4, "@keep4": 4, "@kept": 0}.get(item, 1))
    return b"".join(
        _subsection(name, known) for name, known in _table()["subsections"][item].items()
    )


def _group(item: dict[str, Any]) -> bytes:
    if "any" in item:
        return filled(item["any"][-1])
    if "msix" in item:
        return filled(item["msix"])
    if "up_to" in item:
        return filled(item["of"])
    return (1).to_bytes(item["count"], "big") + filled(item["of"])


def _config() -> bytes:
    config = bytearray(PCI_CONFIG)
    config[PCI_CAPABILITIES] = CAPABILITY_AT
    config[CAPABILITY_AT] = CAPABILITY_MSIX
    config[CAPABILITY_AT + 2] = VECTORS - 1
    return bytes(config)


def _subsection(name: str, versions: dict[str, Any]) -> bytes:
    version, patterns = next(iter(versions.items()))
    head = bytes([SUBSECTION, len(name)]) + name.encode() + int(version).to_bytes(4, "big")
    return head + filled(patterns[0])
