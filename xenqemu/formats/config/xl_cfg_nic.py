"""One string of `vif = […]` in an xl.cfg, and the network interface it names.

::

    vif     key=value { "," key=value }        xl-network-configuration(5), parse_nic_config in
                                               xl_parse.c; the rate in libxlu_vif.c

A key that xl does not know, and a `type` or `mac` that makes no sense, it warns of and goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xenqemu.formats.config.xl_cfg_settings import U32, U64, XlCfgSettings, wrapped
from xenqemu.formats.config.xl_cfg_specs import in_order, options, taken, ulong

_COLO_SOCKETS = (
    *("mirror", "compare_pri_in", "compare_sec_in", "compare_notify"),
    *("redirector0", "redirector1", "redirector2"),
)
_COLO = (
    *(f"colo_sock_{each}_{end}" for each in _COLO_SOCKETS for end in ("id", "ip", "port")),
    *("colo_filter_mirror_queue", "colo_filter_mirror_outdev"),
    *(f"colo_filter_redirector{n}_{end}" for n in "01" for end in ("queue", "indev", "outdev")),
    *("colo_compare_pri_in", "colo_compare_sec_in", "colo_compare_out", "colo_compare_notify_dev"),
    *(f"colo_sock_sec_redirector{n}_{end}" for n in "01" for end in ("id", "ip", "port")),
    *(f"colo_filter_sec_redirector{n}_{end}" for n in "01" for end in ("queue", "indev", "outdev")),
    *("colo_filter_sec_rewriter0_queue", "colo_checkpoint_host", "colo_checkpoint_port"),
)
ORDER = (
    *("backend_domname", "devid", "mtu", "vlan", "model", "mac", "ip", "bridge", "ifname"),
    *("script", "nictype", "rate_bytes_per_interval", "rate_interval_usecs", "gatewaydev"),
    *("coloft_forwarddev", *_COLO, "trusted"),
)
_TEXTS = {
    **{name: name for name in ("vlan", "model", "ip", "bridge", "script", "gatewaydev", *_COLO)},
    "vifname": "ifname",
    "netdev": "gatewaydev",
    "backend": "backend_domname",
    "forwarddev": "coloft_forwarddev",
}
_TYPES = {"ioemu": "vif_ioemu", "vif": "vif"}
_BARE = {"trusted": "True", "untrusted": "False"}
_LEFT_OUT = {"devid": -1, "mtu": 0}
_NOTES = {
    "netdev": "netdev is deprecated: gatewaydev",
    "accel": "accel is not supported by xl",
}
_RATE = re.compile(
    r"(?P<count>[0-9]{1,64}[GMK]?)(?P<bits>[Bb])/s(?:@(?P<time>[0-9]{1,64})(?P<scale>[mu]?)s?)?",
    re.ASCII,
)
_UNITS = {"": 1, "K": 1000, "M": 1000**2, "G": 1000**3}
_USECS = {"": 1000**2, "m": 1000, "u": 1}
_DEFAULT_USECS = 50_000


def nics(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read all network interfaces."""
    specs = cfg.texts("vif") or ()
    return [_nic(cfg, spec, place) for place, spec in enumerate(specs)] or None


def _nic(cfg: XlCfgSettings, spec: str, place: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"devid": place}
    for piece, key, value in options(spec):
        if key in _NOTES:
            cfg.warn("vif", _NOTES[key])
        if piece in _BARE:
            fields["trusted"] = _BARE[piece]
        elif key in _TEXTS:
            fields[_TEXTS[key]] = value
        elif key == "rate":
            fields |= taken(cfg, "vif", _rate, value)
        elif key in _LEFT_OUT:
            count = taken(cfg, "vif", _count, value)
            fields[key] = None if count == _LEFT_OUT[key] else count
        elif key == "type" and value in _TYPES:
            fields["nictype"] = _TYPES[value]
        elif key == "mac":
            fields["mac"] = _mac(cfg, value, fields.get("mac"))
        elif key != "accel":
            cfg.warn("vif", f"{piece[:40]!r} is ignored, as by xl")
    return in_order(ORDER, fields)


def _mac(cfg: XlCfgSettings, value: str, before: str | None) -> str | None:
    """Return a MAC address; of a bad one xl keeps the bytes before the bad one."""
    taken_bytes = [int(byte, 16) for byte in (before or "0:0:0:0:0:0").split(":")]
    rest = value
    for place in range(6):
        found = ulong(rest, 16)
        if found is None or found[0] > 255:
            cfg.warn("vif", f"mac={value[:40]!r} is no MAC address")
            break
        taken_bytes[place] = found[0]
        rest = found[1][1:]
    return ":".join(f"{byte:02x}" for byte in taken_bytes) if any(taken_bytes) else None


def _count(text: str) -> int:
    """Return a number of strtoul's as an int; what follows it is ignored, as by xl."""
    found = ulong(text, 10)
    if found is None or found[0] == U64:
        raise ValueError("a number")
    return wrapped(found[0])


def _rate(text: str) -> Mapping[str, int | None]:
    """Read `10Mb/s@20ms` as libxlu_vif.c does; without `@…` the interval is 50 ms."""
    match = _RATE.fullmatch(text)
    count = ulong(match["count"], 0) if match else None
    if match is None or count is None or not 0 < count[0] <= U32 or count[1] not in _UNITS:
        raise ValueError("a rate, as 10Mb/s@20ms")
    per_second = count[0] * _UNITS[count[1]] // (8 if match["bits"] == "b" else 1)
    usecs = _interval(match["time"], match["scale"])
    if not 0 < usecs <= U32 or per_second * usecs > U64:
        raise ValueError("a rate that is not too big")
    return {
        "rate_bytes_per_interval": per_second * usecs // 1000**2 or None,
        "rate_interval_usecs": usecs,
    }


def _interval(time: str | None, scale: str) -> int:
    found = ulong(time, 0) if time else (0, "")
    if time is None or found is None:
        return _DEFAULT_USECS
    return found[0] * _USECS[scale] if found[0] <= U32 else U64
