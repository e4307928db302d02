"""Disks and nics, as libxl_device_disk and libxl_device_nic are in JSON (libxl_types.idl)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from xenqemu.formats.config.libxl_json import U31, U32, U64, JsonObject
from xenqemu.frozen import Frozen


class Disk(Frozen):
    """A disk as a spec of xl-disk-configuration(5) or a libxl_device_disk names it.

    `target` is the backing file or device, `backend` the driver domain, None where libxl decides.
    """

    target: str | None
    vdev: str
    format: str = "raw"
    readwrite: bool = True
    backendtype: str | None = None
    script: str | None = None
    cdrom: bool = False
    removable: bool = False
    backend: str | None = None
    direct_io_safe: bool = False
    discard: bool | None = None


class Nic(Frozen):
    """A network interface as a spec of xl-network-configuration(5) or a libxl_device_nic names it.

    `nictype` is "vif_ioemu" (emulated and PV), "vif" (PV only) or None where libxl decides; the
    rate is `rate_bytes_per_interval` in each `rate_interval_usecs` microseconds.
    """

    devid: int | None = None
    mac: str | None = None
    bridge: str | None = None
    model: str | None = None
    nictype: str | None = None
    script: str | None = None
    ip: str | None = None
    ifname: str | None = None
    mtu: int | None = None
    gatewaydev: str | None = None
    backend: str | None = None
    rate_bytes_per_interval: int | None = None
    rate_interval_usecs: int | None = None


class Field(NamedTuple):
    """An attribute in JSON."""

    key: str
    attribute: str
    read: Callable[[JsonObject, str], Any]


def _text(key: str, attribute: str = "") -> Field:
    return Field(key, attribute or key, JsonObject.text)


def _number(key: str, high: int) -> Field:
    return Field(key, key, lambda section, key: section.number(key, high))


def _bit(key: str, attribute: str) -> Field:
    return Field(key, attribute, lambda section, key: bool(section.number(key, U31)))


DEFBOOL = {None: None, "<default>": None, "True": True, "False": False}

DISK = (
    _text("backend_domname", "backend"),
    _text("pdev_path", "target"),
    Field("vdev", "vdev", JsonObject.required),
    _text("backend", "backendtype"),
    Field("format", "format", lambda s, key: s.text(key) or "unknown"),
    _text("script"),
    _bit("removable", "removable"),
    _bit("readwrite", "readwrite"),
    _bit("is_cdrom", "cdrom"),
    Field(
        "direct_io_safe",
        "direct_io_safe",
        lambda s, key: s.choice(key, {None: False, False: False, True: True}),
    ),
    Field("discard_enable", "discard", lambda s, key: s.choice(key, DEFBOOL)),
)
NIC = (
    _text("backend_domname", "backend"),
    _number("devid", U31),
    _number("mtu", U31),
    _text("model"),
    _text("mac"),
    _text("ip"),
    _text("bridge"),
    _text("ifname"),
    _text("script"),
    _text("nictype"),
    _number("rate_bytes_per_interval", U64),
    _number("rate_interval_usecs", U32),
    _text("gatewaydev"),
)


def read(fields: tuple[Field, ...], section: JsonObject) -> dict[str, Any]:
    """Return the attributes of the device that `section` is."""
    return {field.attribute: field.read(section, field.key) for field in fields}
