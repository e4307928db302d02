"""What an xl.cfg file makes of a guest: the JSON that `xl -N create` prints of it.

Each key stands in a table of the room that it is about, in the order of libxl_types.idl:
`xl_cfg_build`, `xl_cfg_hvm` and those of the devices; `xl_cfg_rows` says how a row is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from xenqemu.formats.config.domain_config import UUID, DomainConfig
from xenqemu.formats.config.xl_cfg_build import build_info
from xenqemu.formats.config.xl_cfg_devices import (
    channels,
    p9s,
    pvcalls,
    usbctrls,
    usbdevs,
    virtios,
    vtpms,
)
from xenqemu.formats.config.xl_cfg_disk import disks
from xenqemu.formats.config.xl_cfg_display import vdispls, vfbs, vkbs
from xenqemu.formats.config.xl_cfg_nic import nics
from xenqemu.formats.config.xl_cfg_pci import pcidevs
from xenqemu.formats.config.xl_cfg_rows import (
    Reader,
    Row,
    choice,
    flag,
    present,
    struct,
    text,
    word,
)
from xenqemu.formats.config.xl_cfg_settings import LAB_HOST, XlCfgSettings, XlHost
from xenqemu.formats.config.xl_cfg_sound import vsnds

_ACTIONS = {
    "destroy": None,
    "restart": "restart",
    "rename-restart": "restart_rename",
    "preserve": "preserve",
    "coredump-destroy": "coredump_destroy",
    "coredump-restart": "coredump_restart",
    "soft-reset": "soft_reset",
}
_PASSTHROUGH = ("default", "disabled", "enabled", "sync_pt", "share_pt")
_NOTES = {
    "vncviewer": "ignored, as by xl: its option -V",
    "device_model": "ignored, as by xl: device_model_override",
    "vif2": "ignored, as by xl, which has no netchannel2",
    "msr_relaxed": "newer Xens will not know it",
}
"""Keys that xl knows, and warns of."""


@dataclass(frozen=True)
class GuestConfig:
    """A guest as an xl.cfg describes it.

    `warnings` are of what xl warns of.  `names` has all that the file sets, `ignored` those that
    nobody reads: xl passes over them in silence.  A guest whose file has no uuid has a new one
    each time that it is read.
    """

    config: DomainConfig
    warnings: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def from_cfg(cls, text: str | bytes, host: XlHost = LAB_HOST) -> GuestConfig:
        """Read the text of an xl.cfg file as the xl of `host` does.

        Raises `FormatError` with the line and the offset where xl refuses the file, and where
        what it takes cannot be carried in a save file.
        """
        cfg = XlCfgSettings(text, host)
        tree = present((name, read(cfg)) for name, read in _WHOLE)
        for name, note in _NOTES.items():
            if cfg.is_set(name):
                cfg.warn(name, note)
        warnings = tuple(dict.fromkeys(cfg.warnings))
        return cls(DomainConfig(tree), warnings, tuple(cfg.unasked()), tuple(cfg.plain()))


def _name(cfg: XlCfgSettings) -> str:
    name = cfg.string("name")
    if not name:
        raise cfg.wrong("name", "a name for the guest", "none")
    return name


def _uuid(cfg: XlCfgSettings) -> str:
    said = cfg.string("uuid")
    if said is not None and (not UUID.fullmatch(said) or not said.strip("0-")):
        raise cfg.bad("uuid", "a UUID", said)
    return said.lower() if said else str(uuid4())


def _label(cfg: XlCfgSettings) -> str | None:
    init = cfg.string("init_seclabel")
    return cfg.string("seclabel") if init is None else init


def _action(key: str, otherwise: str) -> Reader:
    """Read what becomes of a guest on an event; "destroy" is left out."""
    read = choice(key, _ACTIONS, exact=True)
    return lambda cfg: read(cfg) if cfg.string(key) is not None else _ACTIONS[otherwise]


def _dtdevs(cfg: XlCfgSettings) -> list[dict[str, str]] | None:
    return [{"path": path} for path in cfg.texts("dtdev") or ()] or None


_C_INFO: tuple[Row, ...] = (
    ("type", lambda cfg: cfg.type),
    ("hap", flag("hap")),
    ("oos", flag("oos")),
    ("ssid_label", _label),
    ("name", _name),
    ("uuid", _uuid),
    ("pool_name", text("pool")),
    ("run_hotplug_scripts", lambda _cfg: "True"),
    ("driver_domain", flag("driver_domain")),
    ("passthrough", word("passthrough", _PASSTHROUGH, default="default")),
    ("xend_suspend_evtchn_compat", flag("xend_suspend_evtchn_compat")),
)
_WHOLE: tuple[Row, ...] = (
    ("c_info", struct(*_C_INFO)),
    ("b_info", build_info),
    ("disks", disks),
    ("nics", nics),
    ("pcidevs", pcidevs),
    ("dtdevs", _dtdevs),
    ("vfbs", vfbs),
    ("vkbs", vkbs),
    ("virtios", virtios),
    ("vtpms", vtpms),
    ("p9s", p9s),
    ("pvcallsifs", pvcalls),
    ("vdispls", vdispls),
    ("vsnds", vsnds),
    ("channels", channels),
    ("usbctrls", usbctrls),
    ("usbdevs", usbdevs),
    ("on_poweroff", _action("on_poweroff", "destroy")),
    ("on_reboot", _action("on_reboot", "restart")),
    ("on_watchdog", _action("on_watchdog", "destroy")),
    ("on_crash", _action("on_crash", "destroy")),
    ("on_soft_reset", _action("on_soft_reset", "soft-reset")),
)
