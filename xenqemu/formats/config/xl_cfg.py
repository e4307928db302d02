"""What the keys of an xl.cfg file mean for a guest, with xl's defaults (xl_parse.c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from uuid import uuid4

from xenqemu.formats.config.domain_config import DEFAULT_MIB, MAX_VCPUS, OURS, UUID, DomainConfig
from xenqemu.formats.config.domain_devices import (
    DEFBOOL_WORDS,
    DISK,
    NIC,
    Disk,
    Nic,
    present,
    written,
)
from xenqemu.formats.config.xl_cfg_devices import parse_disk, parse_nic
from xenqemu.formats.config.xl_cfg_syntax import MAX_TEXT, Value, XlCfgSettings, long_value

__all__ = [
    "MAX_TEXT",
    "Disk",
    "GuestConfig",
    "Nic",
    "Value",
    "XlCfgSettings",
    "long_value",
    "parse_disk",
    "parse_nic",
]

MAX_MIB = 1 << 34
_TYPES = {name: name for name in ("hvm", "pv", "pvh")}
_BUILDERS = {"hvm": "hvm", "generic": "pv"}
_VGAS = {"stdvga": "std", "cirrus": "cirrus", "none": "none", "qxl": "qxl"}
_EVENTS = ("on_poweroff", "on_reboot", "on_watchdog", "on_crash", "on_soft_reset")
_ACTIONS = {
    "destroy": "destroy",
    "restart": "restart",
    "rename-restart": "restart_rename",
    "preserve": "preserve",
    "coredump-destroy": "coredump_destroy",
    "coredump-restart": "coredump_restart",
    "soft-reset": "soft_reset",
}
_TSC_MODES = ("default", "always_emulate", "native", "native_paravirt")
_DEVICE_MODELS = {"qemu-xen": "qemu_xen", "qemu-xen-traditional": "qemu_xen_traditional"}


@dataclass(frozen=True)
class GuestConfig:
    """What an xl.cfg asks for; enumerations are in libxl's words, None is left to libxl.

    `memory` and `maxmem` are in MiB.  `unknown` has what else the file sets: xl may know it,
    xenqemu does not, and the caller should warn.
    """

    name: str
    uuid: str
    type: str = "pv"
    memory: int = DEFAULT_MIB
    maxmem: int = DEFAULT_MIB
    vcpus: int = 1
    maxvcpus: int = 1
    kernel: str | None = None
    ramdisk: str | None = None
    cmdline: str | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    serial: tuple[str, ...] = ()
    vga: str | None = None
    vnc: bool | None = None
    sdl: bool | None = None
    usb: bool | None = None
    usbdevice: tuple[str, ...] = ()
    boot: str | None = None
    tsc_mode: str = "default"
    device_model_version: str | None = None
    on_poweroff: str = "destroy"
    on_reboot: str = "restart"
    on_watchdog: str = "destroy"
    on_crash: str = "destroy"
    on_soft_reset: str = "soft_reset"
    unknown: dict[str, Value] = field(default_factory=dict)

    @classmethod
    def from_cfg(cls, text: str | bytes) -> GuestConfig:
        """Read the text of an xl.cfg file, with xl's meanings and defaults.

        Raises `FormatError` with the line and the offset where xl would refuse the file, and for
        values of a wrong type, which xl would pass over with a warning.
        """
        cfg = XlCfgSettings(text)
        parts = (_identity, _memory, _vcpus, _boot, _devices, _actions)
        fields = {name: value for part in parts for name, value in part(cfg).items()}
        return cls(**fields, unknown=cfg.unasked())

    def domain_config(self, extra: Mapping[str, Any] | None = None) -> DomainConfig:
        """Return the configuration that `xl create` makes of it, and `extra`.

        `extra` (JSON's types only) is under the key "xenqemu", which libxl ignores.
        """
        tree = {
            "c_info": {
                "type": self.type,
                "name": self.name,
                "uuid": self.uuid,
                "run_hotplug_scripts": "True",
            },
            "b_info": _build_info(self),
            "disks": [written(DISK, disk) for disk in self.disks] or None,
            "nics": [written(NIC, nic) for nic in self.nics] or None,
            **_actions_taken(self),
            OURS: dict(extra) if extra else None,
        }
        return DomainConfig(present(tree))


def _identity(cfg: XlCfgSettings) -> dict[str, Any]:
    name, text = cfg.string("name"), cfg.string("uuid")
    if not name:
        raise cfg.wrong("name", "a name for the guest", "none")
    if text is not None and not UUID.fullmatch(text):
        raise cfg.wrong("uuid", "a UUID", repr(text[:40]))
    return {"name": name, "uuid": text.lower() if text else str(uuid4()), "type": _type(cfg)}


def _type(cfg: XlCfgSettings) -> str:
    kind, builder = cfg.choice("type", _TYPES), cfg.choice("builder", _BUILDERS)
    if kind and builder and kind != builder:
        raise cfg.wrong("builder", f"what type says, {kind}", builder)
    return kind or builder or "pv"


def _memory(cfg: XlCfgSettings) -> dict[str, Any]:
    memory, maxmem = cfg.number("memory", 1, MAX_MIB), cfg.number("maxmem", 1, MAX_MIB)
    memory = memory or maxmem or DEFAULT_MIB
    maxmem = maxmem or memory
    if maxmem < memory:
        raise cfg.wrong("maxmem", f"at least memory, {memory}", str(maxmem))
    return {"memory": memory, "maxmem": maxmem}


def _vcpus(cfg: XlCfgSettings) -> dict[str, Any]:
    vcpus = cfg.number("vcpus", 1, MAX_VCPUS) or 1
    maxvcpus = cfg.number("maxvcpus", 1, MAX_VCPUS) or vcpus
    if maxvcpus < vcpus:
        raise cfg.wrong("maxvcpus", f"at least vcpus, {vcpus}", str(maxvcpus))
    return {"vcpus": vcpus, "maxvcpus": maxvcpus}


def _boot(cfg: XlCfgSettings) -> dict[str, Any]:
    root, extra = cfg.string("root"), cfg.string("extra")
    words = [f"root={root}"] if root is not None else []
    words += [extra] if extra is not None else []
    cmdline = cfg.string("cmdline")
    if cmdline is None and words:
        cmdline = " ".join(words)
    return {
        "kernel": _kernel(cfg),
        "ramdisk": cfg.string("ramdisk"),
        "cmdline": cmdline,
        "boot": cfg.string("boot"),
        "tsc_mode": _tsc_mode(cfg),
    }


def _kernel(cfg: XlCfgSettings) -> str | None:
    kernel = cfg.string("kernel")
    if _type(cfg) == "hvm":  # xm's files named the firmware here
        return None if kernel is not None and PurePosixPath(kernel).name == "hvmloader" else kernel
    if kernel is None and not {"bootloader", "firmware"} & cfg.plain().keys():
        raise cfg.wrong("kernel", "a kernel or a bootloader for a pv or pvh guest", "none")
    return kernel


def _tsc_mode(cfg: XlCfgSettings) -> str:
    numbers = {str(number): mode for number, mode in enumerate(_TSC_MODES)}
    return cfg.choice("tsc_mode", {mode: mode for mode in _TSC_MODES} | numbers) or "default"


def _devices(cfg: XlCfgSettings) -> dict[str, Any]:
    return {
        "disks": cfg.specs("disk", parse_disk),
        "nics": cfg.specs("vif", parse_nic),
        "serial": cfg.item_or_items("serial"),
        "vga": cfg.choice("vga", _VGAS),
        "vnc": cfg.flag("vnc"),
        "sdl": cfg.flag("sdl"),
        "usb": cfg.flag("usb"),
        "usbdevice": cfg.item_or_items("usbdevice"),
        "device_model_version": cfg.choice("device_model_version", _DEVICE_MODELS),
    }


def _actions(cfg: XlCfgSettings) -> dict[str, Any]:
    chosen = {name: cfg.choice(name, _ACTIONS) for name in _EVENTS}
    return {name: action for name, action in chosen.items() if action}


def _actions_taken(guest: GuestConfig) -> dict[str, str]:
    actions = {name: getattr(guest, name) for name in _EVENTS}
    return {name: action for name, action in actions.items() if action != "destroy"}


def _build_info(guest: GuestConfig) -> dict[str, Any]:
    kind = _hvm(guest) if guest.type == "hvm" else {}
    return present(
        {
            "max_vcpus": guest.maxvcpus,
            "avail_vcpus": list(range(guest.vcpus)),
            "tsc_mode": None if guest.tsc_mode == "default" else guest.tsc_mode,
            "max_memkb": guest.maxmem * 1024,
            "target_memkb": guest.memory * 1024,
            "device_model_version": guest.device_model_version,
            "sched_params": {},
            "claim_mode": "True",
            "kernel": guest.kernel,
            "cmdline": guest.cmdline,
            "ramdisk": guest.ramdisk,
            f"type.{guest.type}": kind,
            "arch_arm": {},
            "arch_x86": {},
        }
    )


def _hvm(guest: GuestConfig) -> dict[str, Any]:
    return present(
        {
            "vga": present({"kind": guest.vga}),
            "vnc": present({"enable": DEFBOOL_WORDS[guest.vnc]}),
            "sdl": present({"enable": DEFBOOL_WORDS[guest.sdl]}),
            "spice": {},
            "boot": guest.boot,
            "usb": DEFBOOL_WORDS[guest.usb],
            "usbdevice_list": list(guest.usbdevice) or None,
            "serial_list": list(guest.serial) or None,
            "rdm": {},
        }
    )
