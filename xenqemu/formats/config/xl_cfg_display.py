"""What a guest is seen and worked by, in an xl.cfg: frame buffers, keyboards, displays.

The top-level keys of VNC and SDL are for the device model of an HVM guest; a PV guest without
`vfb` has a frame buffer by them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from xenqemu.formats.config.xl_cfg_kinds import BACKEND, Else, Kind, devices
from xenqemu.formats.config.xl_cfg_rows import flag, number, present, struct, text
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import (
    as_bool,
    as_count,
    as_defbool,
    as_int,
    as_text,
    as_word,
    in_order,
    pieces,
)


def _connectors(text: str) -> list[dict[str, Any]]:
    found = []
    for piece in pieces(text, ";"):
        name, _, resolution = piece.partition(":")
        size = re.fullmatch(r"\s*([0-9]{1,9})x\s*([0-9]{1,9}).*", resolution, re.ASCII | re.DOTALL)
        if size is None:
            raise ValueError("connectors as NAME:WIDTHxHEIGHT")
        width, height = int(size[1]) or None, int(size[2]) or None
        found.append(present({"unique_id": name, "width": width, "height": height}.items()))
    if not found:
        raise ValueError("at least one connector")
    return found


VDISPL = Kind(
    "vdispl",
    ("backend_domname", "devid", "be_alloc", "connectors"),
    {**BACKEND, "be-alloc": ("be_alloc", as_bool), "connectors": ("connectors", _connectors)},
    needed={"connectors": "connectors"},
)
_BACKENDS = {"unknown": None, "qemu": "qemu", "linux": "linux"}
VKB = Kind(
    "vkb",
    (
        *("backend_domname", "devid", "backend_type", "unique_id", "feature_disable_keyboard"),
        *("feature_disable_pointer", "feature_abs_pointer", "feature_raw_pointer"),
        *("feature_multi_touch", "width", "height", "multi_touch_width", "multi_touch_height"),
        "multi_touch_num_contacts",
    ),
    {
        **BACKEND,
        "backend-type": (
            "backend_type",
            as_word({"unknown": None, "qemu": "qemu", "linux": "linux"}),
        ),
        "unique-id": ("unique_id", as_text),
        **{
            f"feature-{each}": (f"feature_{each.replace('-', '_')}", as_bool)
            for each in (
                *("disable-keyboard", "disable-pointer", "abs-pointer", "raw-pointer"),
                "multi-touch",
            )
        },
        **{
            each: (each.replace("-", "_"), as_count)
            for each in (
                *("width", "height", "multi-touch-width", "multi-touch-height"),
                "multi-touch-num-contacts",
            )
        },
    },
)
VFB = Kind(
    "vfb",
    ("devid", "vnc", "sdl", "keymap"),
    {
        "vnc": ("enable", as_defbool),
        "vnclisten": ("listen", as_text),
        "vncpasswd": ("passwd", as_text),
        "vncdisplay": ("display", as_int),
        "vncunused": ("findunused", as_defbool),
        "keymap": ("keymap", as_text),
        "sdl": ("sdl_enable", as_defbool),
        "opengl": ("sdl_opengl", as_defbool),
        "display": ("sdl_display", as_text),
        "xauthority": ("sdl_xauthority", as_text),
    },
    bare=Else.END,
    unknown=Else.WARNED_OF,
)
VNC = ("enable", "listen", "passwd", "display", "findunused")
SDL = ("enable", "opengl", "display", "xauthority")


def _vkb(cfg: XlCfgSettings, fields: dict[str, Any]) -> Mapping[str, Any]:
    if fields.get("backend_type") is None:
        raise cfg.wrong("vkb", "backend-type=…", "none")
    sizes = ("multi_touch_width", "multi_touch_height", "multi_touch_num_contacts")
    if any(fields.get(name) for name in sizes):
        fields["feature_multi_touch"] = True
    elif fields.get("feature_multi_touch"):
        raise cfg.wrong("vkb", "multi-touch-width=… and the like", "none")
    return fields


def _vfb(_cfg: XlCfgSettings, fields: dict[str, Any]) -> Mapping[str, Any]:
    vnc = in_order(VNC, fields)
    sdl = present((name, fields.get(f"sdl_{name}")) for name in SDL)
    return {**fields, "vnc": vnc, "sdl": sdl}


VNC_ROOM = struct(
    ("enable", flag("vnc")),
    ("listen", text("vnclisten")),
    ("passwd", text("vncpasswd")),
    ("display", number("vncdisplay")),
    ("findunused", flag("vncunused")),
)
SDL_ROOM = struct(
    ("enable", flag("sdl")),
    ("opengl", flag("opengl")),
    ("display", text("display")),
    ("xauthority", text("xauthority")),
)


def vfbs(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read the frame buffers; a PV guest without any has one by the top-level keys of VNC."""
    found: list[dict[str, Any]] | None = devices(VFB, _vfb)(cfg)
    if found is None and _top_level_vfb(cfg):
        one = {
            "devid": 0,
            "vnc": VNC_ROOM(cfg),
            "sdl": SDL_ROOM(cfg),
            "keymap": cfg.string("keymap"),
        }
        return [in_order(VFB.order, one)]
    return found


def vkbs(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read the keyboards: one for each frame buffer, then those that are named."""
    of_vfbs = len(cfg.texts("vfb", quiet=True) or ()) or int(_top_level_vfb(cfg))
    named = devices(VKB, _vkb)(cfg) or []
    return [
        *({"devid": place} for place in range(of_vfbs)),
        *({**vkb, "devid": place} for place, vkb in enumerate(named, of_vfbs)),
    ] or None


def _top_level_vfb(cfg: XlCfgSettings) -> bool:
    no_vfb = not cfg.texts("vfb", quiet=True)
    return cfg.type == "pv" and no_vfb and bool(cfg.number("vnc"))


vdispls = devices(VDISPL)
