"""Devices of an xl.cfg with keys and values: TPMs, 9pfs, channels, USB, virtio and PV calls."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xenqemu.formats.config.domain_config import UUID
from xenqemu.formats.config.xl_cfg_kinds import BACKEND, Else, Kind, devices
from xenqemu.formats.config.xl_cfg_rows import present
from xenqemu.formats.config.xl_cfg_settings import U32, U64, XEN_4_20, XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import (
    as_bool,
    as_int,
    as_text,
    as_word,
    atoi,
    in_order,
    lenient_ulong,
    ulong,
)

_NIL = "0" * 8 + "-0000" * 3 + "-" + "0" * 12


def _uuid(text: str) -> str | None:
    if not UUID.fullmatch(text):
        raise ValueError("a UUID")
    return None if text == _NIL else text.lower()


def _number(text: str) -> int | None:
    found = ulong(text, 10)
    if found is None or found[0] == U64:
        raise ValueError("a number")
    return found[0] & U32 or None


VTPM = Kind(
    "vtpm",
    ("backend_domname", "devid", "uuid"),
    {**BACKEND, "uuid": ("uuid", _uuid)},
    bare=Else.END,
    needed={"backend_domname": "backend"},
)
PVCALLS = Kind("pvcalls", ("backend_domname", "devid"), BACKEND, bare=Else.END)
USBCTRL = Kind(
    "usbctrl",
    ("type", "devid", "version", "ports"),
    {
        "type": (
            "type",
            as_word({"auto": None, "pv": "pv", "devicemodel": "devicemodel", "qusb": "qusb"}),
        ),
        "version": ("version", as_int),
        "ports": ("ports", as_int),
    },
)
USBDEV = Kind(
    "usbdev",
    ("ctrl", "port", "type.hostdev"),
    {
        "type": ("type", as_word({"hostdev": "hostdev"})),
        "hostbus": ("hostbus", lambda text: lenient_ulong(text) & 0xFF or None),
        "hostaddr": ("hostaddr", lambda text: lenient_ulong(text) & 0xFF or None),
        "controller": ("ctrl", lambda text: None if atoi(text) == -1 else atoi(text)),
        "port": ("port", as_int),
    },
    numbered=False,
)
CHANNEL = Kind(
    "channel",
    ("backend_domname", "devid", "name", "connection.pty", "connection.socket"),
    {
        **BACKEND,
        "name": ("name", as_text),
        "path": ("path", as_text),
        "connection": ("connection", as_word({"pty": "pty", "socket": "socket"})),
    },
    unknown=Else.WARNED_OF,
    trimmed=True,
    needed={"connection": "connection"},
)
VIRTIO = Kind(
    "virtio",
    ("backend_domname", "type", "transport", "grant_usage", "devid"),
    {
        **BACKEND,
        "type": ("type", as_text),
        "transport": ("transport", as_word({"unknown": None, "mmio": "mmio"})),
        "grant_usage": ("grant_usage", lambda text: str(lenient_ulong(text) != 0)),
    },
)
P9 = Kind(
    "p9",
    (
        *("backend_domname", "tag", "path", "security_model", "devid", "type", "max_space"),
        *("max_files", "max_open_files", "auto_delete"),
    ),
    {name: (name, as_text) for name in ("tag", "path", "security_model")} | BACKEND,
    bare=Else.END,
    numbered=False,
    needed={name: name for name in ("tag", "path", "security_model")},
)
"""As xl 4.17 knows it."""
P9_TYPES = {"unknown": None, "qemu": "qemu", "xen_9pfsd": "xen_9pfsd"}
P9_OF_4_20 = Kind(
    "p9",
    P9.order,
    {
        **P9.keys,
        "type": ("type", as_word(P9_TYPES)),
        "max-files": ("max_files", _number),
        "max-open-files": ("max_open_files", _number),
        "max-space": ("max_space", _number),
        "auto-delete": ("auto_delete", as_bool),
    },
    trimmed=True,
    numbered=False,
)
P9_LOGS = "/var/log/xen/guests"


def _usbdev(_cfg: XlCfgSettings, fields: dict[str, Any]) -> Mapping[str, Any]:
    if fields.pop("type", None) is not None:
        host = present((name, fields.get(name)) for name in ("hostbus", "hostaddr"))
        fields["type.hostdev"] = host
    return fields


def _channel(cfg: XlCfgSettings, fields: dict[str, Any]) -> Mapping[str, Any]:
    if cfg.host.release >= XEN_4_20:
        del fields["devid"]  # libxl numbers them
    socket = fields["connection"] == "socket"
    if socket and "path" not in fields:
        raise cfg.wrong("channel", "path=…", "none")
    return {
        **fields,
        f"connection.{fields['connection']}": {"path": fields["path"]} if socket else {},
    }


def _p9(cfg: XlCfgSettings, fields: dict[str, Any]) -> Mapping[str, Any]:
    if fields.get("type") == "xen_9pfsd":
        fields.setdefault("path", f"{P9_LOGS}/{cfg.string('name')}")
    return fields


def _p9_kind(cfg: XlCfgSettings) -> Kind:
    return P9_OF_4_20 if cfg.host.release >= XEN_4_20 else P9


def virtios(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read the virtio devices; the type of one may be two words, as virtio,device22."""
    specs = cfg.texts("virtio") or ()
    made = []
    for place, spec in enumerate(specs):
        joined = re.sub(r"(^|,)( *type=virtio[^,]*),([^,]+)", "\\1\\2\0\\3", spec)
        fields = VIRTIO.device(cfg, joined, place)
        made.append({**fields, "type": (fields.get("type") or "").replace("\0", ",") or None})
    return [in_order(VIRTIO.order, fields) for fields in made] or None


p9s = devices(_p9_kind, _p9)
vtpms = devices(VTPM)
pvcalls = devices(PVCALLS)
channels = devices(CHANNEL, _channel)
usbctrls = devices(USBCTRL)
usbdevs = devices(USBDEV, _usbdev)
