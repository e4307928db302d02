"""What an xl.cfg says of one type of guest alone: libxl's `type.hvm`, `type.pvh`, `type.pv`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import token_bytes
from typing import Any

from xenqemu.formats.config.xl_cfg_display import SDL_ROOM, VNC_ROOM
from xenqemu.formats.config.xl_cfg_pci import rdm
from xenqemu.formats.config.xl_cfg_rows import (
    Reader,
    choice,
    chosen,
    flag,
    mib,
    number,
    struct,
    text,
    word,
)
from xenqemu.formats.config.xl_cfg_settings import U64, XlCfgSettings

_BIOSES: Mapping[str, str | None] = {
    "unknown": None,
    "rombios": "rombios",
    "seabios": "seabios",
    "ovmf": "ovmf",
}
_VGAS = {"stdvga": "std", "cirrus": "cirrus", "none": "none", "qxl": "qxl"}
_GFX = {"default": None, "igd": "igd"}
_ENLIGHTENMENTS = (
    *("base", "freq", "time_ref_count", "reference_tsc", "hcall_remote_tlb_flush"),
    *("apic_assist", "crash_ctl", "synic", "stimer", "hcall_ipi", "ex_processor_masks"),
    *("no_vp_limit", "cpu_hotplug"),
)
_ENLIGHTENMENT_BITS = 64
_SMBIOS = (
    *("bios_vendor", "bios_version", "system_manufacturer", "system_product_name"),
    *("system_version", "system_serial_number", "baseboard_manufacturer"),
    *("baseboard_product_name", "baseboard_version", "baseboard_serial_number"),
    *("baseboard_asset_tag", "baseboard_location_in_chassis", "enclosure_manufacturer"),
    *("enclosure_serial_number", "enclosure_asset_tag", "battery_manufacturer"),
    *("battery_device_name", "oem"),
)
_MAX_OEMS = 99
_LMCE = 1
_GENID_SIZE = 16
_LEAST_HOLE, _MOST_HOLE = 0x10000000, 0xF0000000
"""Bytes (HVM_BELOW_4G_MMIO_LENGTH, HVM_BELOW_4G_MMIO_START)."""


def _firmware(cfg: XlCfgSettings) -> str | None:
    """Read the path of a firmware: `firmware` may be one, or one of its words."""
    said = cfg.string("firmware")
    if said is not None and _bios_of_firmware(said) is None:
        return said
    return cfg.string("firmware_override")


def _bios_of_firmware(said: str) -> str | None:
    """Return the BIOS that `firmware` means, "" for the default one; None if it is a path.

    xl takes the beginning of "uefi" and "bios" for them.
    """
    if said.lower() in _BIOSES:
        return _BIOSES[said.lower()] or ""
    if "uefi".startswith(said):
        return "ovmf"
    return "" if "bios".startswith(said) else None


def _bios(cfg: XlCfgSettings) -> str | None:
    named: str | None = choice("bios", _BIOSES)(cfg)
    if not cfg.is_set("bios") and cfg.is_set("bios_path_override"):
        cfg.warn("bios_path_override", "given without bios")
    said = cfg.string("firmware")
    found = None if said is None else _bios_of_firmware(said)
    if said is not None and said.lower() == "unknown":
        return None
    return found or named


def _viridian(cfg: XlCfgSettings) -> str | None:
    if not cfg.is_list("viridian"):
        value = cfg.number("viridian")
        return None if value is None else str(value != 0)
    return "True" if "defaults" in (cfg.texts("viridian") or ()) else None


def _enlightenments(*, enabled: bool) -> Reader:
    def read(cfg: XlCfgSettings) -> list[int] | None:
        if not cfg.is_list("viridian"):
            return None
        on, off = set[int](), set[int]()
        for each in cfg.texts("viridian") or ():
            if each == "all":
                on = {*range(_ENLIGHTENMENT_BITS)}
            elif each != "defaults":
                to, away = (off, on) if each.startswith("!") else (on, off)
                name = each.removeprefix("!")
                bit = chosen(cfg, "viridian", name, _numbered(_ENLIGHTENMENTS))
                to.add(bit)
                away.discard(bit)
        return sorted(on if enabled else off) or None

    return read


def _numbered(words: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(words)}


def _mmio_hole(cfg: XlCfgSettings) -> int | None:
    kib: int | None = mib("mmio_hole")(cfg)
    if kib is not None and not _LEAST_HOLE <= kib * 1024 & U64 <= _MOST_HOLE:
        expected = f"MiB from {_LEAST_HOLE >> 20} to {_MOST_HOLE >> 20}"
        raise cfg.bad("mmio_hole", expected, cfg.string("mmio_hole"))
    return kib


def _altp2mhvm(cfg: XlCfgSettings) -> str | None:
    said = cfg.flag("altp2mhvm")
    if said is not None:
        cfg.warn("altp2mhvm", "deprecated: altp2m")
    return said


def _smbios(cfg: XlCfgSettings) -> list[dict[str, str]] | None:
    if cfg.is_set("smbios") and not cfg.is_list("smbios"):
        raise cfg.wrong("smbios", "a list of key=value", "one value")
    found = []
    for spec in cfg.texts("smbios") or ():
        key, _, value = spec.partition("=")
        if not value:
            raise cfg.bad("smbios", "key=value", spec)
        found.append({"key": chosen(cfg, "smbios", key, {n: n for n in _SMBIOS}), "value": value})
    if sum(each["key"] == "oem" for each in found) > _MAX_OEMS:
        raise cfg.wrong("smbios", f"at most {_MAX_OEMS} oem", "more")
    return found or None


def _vga(cfg: XlCfgSettings) -> str | None:
    if cfg.is_set("vga") and not cfg.is_list("vga"):
        return choice("vga", _VGAS, exact=True)(cfg)  # type: ignore[no-any-return]
    cfg.string("vga")  # warns of a list
    std = cfg.number("stdvga")
    return None if std is None else "std" if std else "cirrus"


def _gfx_passthru(cfg: XlCfgSettings) -> str | None:
    by_number = cfg.number("gfx_passthru", quiet=True)
    if by_number is not None:
        return str(by_number != 0)
    return None if cfg.string("gfx_passthru") is None else "True"


def _gfx_passthru_kind(cfg: XlCfgSettings) -> str | None:
    if cfg.number("gfx_passthru", quiet=True) is not None:
        return None
    return choice("gfx_passthru", _GFX)(cfg)  # type: ignore[no-any-return]


def _one(key: str) -> Reader:
    """Read one string, where it is no list."""
    return lambda cfg: None if cfg.is_list(key) else cfg.string(key)


def _many(key: str) -> Reader:
    """Read a list of strings, where it is one."""
    return lambda cfg: (cfg.texts(key) or None) if cfg.is_list(key) else None


def _genid(cfg: XlCfgSettings) -> list[int] | None:
    """Read the VM generation ID, which is a new one each time that the file is read."""
    said = choice("ms_vm_genid", {"generate": True, "none": False}, exact=True)(cfg)
    return list(token_bytes(_GENID_SIZE)) if said else None


def _mca_caps(cfg: XlCfgSettings) -> int | None:
    if cfg.is_set("mca_caps") and not cfg.is_list("mca_caps"):
        raise cfg.wrong("mca_caps", "a list of strings", "one value")
    caps = [chosen(cfg, "mca_caps", each, {"lmce": _LMCE}, exact=True) for each in _caps(cfg)]
    return _LMCE if caps else None


def _caps(cfg: XlCfgSettings) -> list[str]:
    return cfg.texts("mca_caps") or []


def _vnc(cfg: XlCfgSettings) -> dict[str, Any]:
    vnc: dict[str, Any] = VNC_ROOM(cfg)
    if ":" in vnc.get("listen", "") and vnc.get("display"):
        raise cfg.bad("vnclisten", "no display beside vncdisplay", vnc["listen"])
    return vnc


_SPICE = struct(
    ("enable", flag("spice")),
    ("port", number("spiceport")),
    ("tls_port", number("spicetls_port")),
    ("host", text("spicehost")),
    ("disable_ticketing", flag("spicedisable_ticketing")),
    ("passwd", text("spicepasswd")),
    ("agent_mouse", flag("spiceagent_mouse")),
    ("vdagent", flag("spicevdagent")),
    ("clipboard_sharing", flag("spice_clipboard_sharing")),
    ("usbredirection", number("spiceusbredirection")),
    ("image_compression", text("spice_image_compression")),
    ("streaming_video", text("spice_streaming_video")),
)

HVM = struct(
    ("firmware", _firmware),
    ("bios", _bios),
    ("pae", flag("pae")),
    ("acpi_s3", flag("acpi_s3")),
    ("acpi_s4", flag("acpi_s4")),
    ("acpi_laptop_slate", flag("acpi_laptop_slate")),
    ("nx", flag("nx")),
    ("viridian", _viridian),
    ("viridian_enable", _enlightenments(enabled=True)),
    ("viridian_disable", _enlightenments(enabled=False)),
    ("hpet", flag("hpet")),
    ("vpt_align", flag("vpt_align")),
    ("mmio_hole_memkb", _mmio_hole),
    ("altp2m", _altp2mhvm),
    ("system_firmware", text("bios_path_override")),
    ("smbios_firmware", text("smbios_firmware")),
    ("smbios", _smbios),
    ("acpi_firmware", text("acpi_firmware")),
    ("hdtype", word("hdtype", ("ide", "ahci"), default="ide")),
    ("nographic", flag("nographic")),
    ("vga", struct(("kind", _vga))),
    ("vnc", _vnc),
    ("keymap", text("keymap")),
    ("sdl", SDL_ROOM),
    ("spice", _SPICE),
    ("gfx_passthru", _gfx_passthru),
    ("gfx_passthru_kind", _gfx_passthru_kind),
    ("serial", _one("serial")),
    ("boot", text("boot")),
    ("usb", flag("usb")),
    ("usbversion", number("usbversion")),
    ("usbdevice", _one("usbdevice")),
    ("vkb_device", flag("vkb_device")),
    ("soundhw", text("soundhw")),
    ("xen_platform_pci", flag("xen_platform_pci")),
    ("usbdevice_list", _many("usbdevice")),
    ("vendor_device", word("vendor_device", ("none", "xenserver"), default="none")),
    ("ms_vm_genid", _genid),
    ("serial_list", _many("serial")),
    ("rdm", rdm),
    ("rdm_mem_boundary_memkb", mib("rdm_mem_boundary")),
    ("mca_caps", _mca_caps),
    ("pirq", flag("hvm_pirq")),
)
PVH = struct(
    ("pvshim", flag("pvshim")),
    ("pvshim_path", text("pvshim_path")),
    ("pvshim_cmdline", text("pvshim_cmdline")),
    ("pvshim_extra", text("pvshim_extra")),
)


def _e820_host(cfg: XlCfgSettings) -> str | None:
    said = cfg.flag("e820_host")
    return "True" if cfg.texts("pci", quiet=True) else said


PV = struct(("e820_host", _e820_host))
ROOMS = {"hvm": HVM, "pvh": PVH, "pv": PV}
