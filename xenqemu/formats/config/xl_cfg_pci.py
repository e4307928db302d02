"""PCI devices of an xl.cfg, and the reserved device memory that goes with them (libxlu_pci.c)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from xenqemu.formats.config.xl_cfg_settings import U32, XlCfgSettings, wrapped
from xenqemu.formats.config.xl_cfg_specs import atoi, in_order

ORDER = (
    *("func", "dev", "bus", "domain", "vdevfn", "vfunc_mask", "msitranslate", "power_mgmt"),
    *("permissive", "seize", "rdm_policy", "name"),
)
FLAGS = ("msitranslate", "power_mgmt", "permissive", "seize")
POLICIES = {"invalid": None, "strict": "strict", "relaxed": "relaxed"}
EXPECTED = "[DOMAIN:]BUS:DEVICE.FUNCTION[@SLOT] and key=value"
_BDF = re.compile(
    r"(?:(?P<domain>[0-9a-f]{1,8}):)?(?P<bus>[0-9a-f]{1,8}):(?P<dev>[0-9a-f]{1,8})"
    r"\.(?P<func>\*|[0-9a-f]{1,8})",
    re.IGNORECASE | re.ASCII,
)
_SLOT = re.compile(r"(?:0x)?([0-9a-f]{1,8})", re.IGNORECASE | re.ASCII)
_MOST = {"domain": 0xFFFF, "bus": 0xFF, "dev": 0x1F, "func": 7}


def pcidevs(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read all PCI devices; each begins with the options that are for all."""
    shared: dict[str, Any] = {name: _shared(cfg, name) for name in FLAGS}
    shared["rdm_policy"] = None if cfg.type == "hvm" else "strict"  # what xl finds in the union
    found = []
    for spec in cfg.texts("pci") or ():
        device = dict(shared)
        if not _read(spec, device):
            raise cfg.bad("pci", EXPECTED, spec)
        fields = {name: value or None for name, value in device.items()}
        found.append(in_order(ORDER, fields))
    return found or None


def rdm(cfg: XlCfgSettings) -> dict[str, str]:
    """Read the strategy for reserved device memory, as far as xl takes it.

    xlu_rdm_parse takes a policy that exists for an error, and drops the whole value; for one that
    does not, or none, xl copies what is in its memory by chance, which is left out here.
    """
    said = cfg.string("rdm")
    if said is None:
        return {}
    wrong = [part for part in said.split(",") if part != "strategy=host" and not _no_policy(part)]
    if wrong:
        cfg.warn("rdm", f"{said[:40]!r} is ignored, as by xl")
    elif "policy=" in said:
        cfg.warn("rdm", "the policy is ignored, as by xl")
    return {"strategy": "host"} if not wrong and "strategy=" in said else {}


def _no_policy(part: str) -> bool:
    """Return whether a part names a policy that there is not."""
    key, _, value = part.partition("=")
    return key == "policy" and value.lower() not in POLICIES


def _shared(cfg: XlCfgSettings, name: str) -> bool:
    return wrapped(cfg.number(f"pci_{name}") or 0) != 0


def _read(spec: str, device: dict[str, Any]) -> bool:
    """Read one spec into a device, and return whether it is sound."""
    found = _BDF.match(spec)
    rest = spec
    if found and _address(found, device):
        rest = spec[found.end() :]
        if rest.startswith("@"):
            slot = _SLOT.match(rest, 1)
            if slot is None or not _slot(slot[1], device):
                return False
            rest = rest[slot.end() :]
        if rest[:1] not in ("", ","):
            return False
        rest = rest[1:]
    return all(_option(key, value, device) for key, value in _options(rest)) and (
        ("vfunc_mask" in device) != ("name" in device)
    )


def _options(rest: str) -> Iterator[tuple[str, str]]:
    """Yield keys and values; a piece without "=" has a key that nobody knows."""
    while rest:
        key, equals, after = rest.partition("=")
        value, _, rest = after.partition(",")
        yield (key, value) if equals else ("", "")


def _option(key: str, value: str, device: dict[str, Any]) -> bool:
    if key == "bdf":
        found = _BDF.match(value)
        return found is not None and _address(found, device)
    if key == "vslot":
        slot = _SLOT.match(value)
        return slot is not None and _slot(slot[1], device)
    if key in FLAGS:
        device[key] = atoi(value) != 0
        return True
    if key == "rdm_policy" and value.lower() in POLICIES:
        device[key] = POLICIES[value.lower()]
        return True
    if key == "name":
        device[key] = value
    return key == "name"


def _address(found: re.Match[str], device: dict[str, Any]) -> bool:
    every = found["func"] == "*"
    parts = {name: found[name] or "0" for name in _MOST}
    numbers = {name: 0 if text == "*" else int(text, 16) for name, text in parts.items()}
    if any(value > _MOST[name] for name, value in numbers.items()):
        return False
    device |= {**numbers, "vfunc_mask": U32 if every else 1}
    return True


def _slot(text: str, device: dict[str, Any]) -> bool:
    slot = int(text, 16)
    device["vdevfn"] = slot << 3
    return slot <= _MOST["dev"]
