"""The sound cards of an xl.cfg: `vsnd = [ [ "card, …", "pcm, …", "stream, …" ], … ]`.

An item of a card begins with what it is about; a stream belongs to the PCM before it, and makes
one if there is none (parse_vsnd_item in xl_parse.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xenqemu.formats.config.xl_cfg_rows import present
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import (
    Take,
    as_count,
    as_text,
    as_word,
    in_order,
    lenient_ulong,
    options,
    pieces,
    taken,
)

_SIZED = [
    f"{sign}{size}_{order}" for size in (16, 24, 32) for sign in "su" for order in ("le", "be")
]
_FORMATS = (
    *("s8", "u8", *_SIZED, "f32_le", "f32_be", "f64_le", "f64_be"),
    *("iec958_subframe_le", "iec958_subframe_be", "mu_law", "a_law", "ima_adpcm", "mpeg", "gsm"),
)
_FORMAT = as_word({each: each for each in _FORMATS})


def _rates(text: str) -> list[int]:
    return [lenient_ulong(each) & 0xFFFFFFFF for each in pieces(text, ";")]


def _formats(text: str) -> list[str]:
    return [_FORMAT(each) for each in pieces(text, ";")]


_PARAMS: Mapping[str, tuple[str, Take]] = {
    "sample-rates": ("sample_rates", _rates),
    "sample-formats": ("sample_formats", _formats),
    "channels-min": ("channels_min", as_count),
    "channels-max": ("channels_max", as_count),
    "buffer-size": ("buffer_size", as_count),
}
_PARAMS_ORDER = tuple(name for name, _ in _PARAMS.values())
_OWN: Mapping[str, Mapping[str, tuple[str, Take]]] = {
    "card": {
        "backend": ("backend_domname", as_text),
        "short-name": ("short_name", as_text),
        "long-name": ("long_name", as_text),
    },
    "pcm": {"name": ("name", as_text)},
    "stream": {
        "unique-id": ("unique_id", as_text),
        "type": ("type", as_word({"p": "p", "c": "c"})),
    },
}


def vsnds(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read all sound cards."""
    cards = []
    for place, items in enumerate(cfg.items("vsnd") or ()):
        if not isinstance(items, list):
            raise cfg.wrong("vsnd", "a list of strings for each card", "a string")
        cards.append(_card(cfg, [str(item) for item in items], place))
    return cards or None


def _card(cfg: XlCfgSettings, items: list[str], place: int) -> dict[str, Any]:
    card: dict[str, Any] = {"devid": place}
    pcms: list[dict[str, Any]] = []
    for item in items:
        words = list(options(item))
        if not words:
            continue
        what = words[0][0].lower()
        if what not in _OWN:
            raise cfg.bad("vsnd", "card, pcm or stream", words[0][0])
        target = card if what == "card" else _begun(what, pcms)
        for piece, key, value in words[1:]:
            known = {**_PARAMS, **_OWN[what]}
            if key not in known:
                raise cfg.bad("vsnd", "one of " + ", ".join(known), piece)
            name, take = known[key]
            target[name] = taken(cfg, "vsnd", take, value)
    order = ("backend_domname", "devid", "short_name", "long_name")
    return _ordered(order, card) | present([("pcms", [_pcm(each) for each in pcms] or None)])


def _begun(what: str, pcms: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the fields of a new PCM, or of a new stream of the last one."""
    if what == "pcm" or not pcms:
        pcms.append({"streams": []})
    if what == "pcm":
        return pcms[-1]
    stream: dict[str, Any] = {}
    pcms[-1]["streams"].append(stream)
    return stream


def _pcm(fields: dict[str, Any]) -> dict[str, Any]:
    streams = [_ordered(("unique_id", "type"), stream) for stream in fields["streams"]]
    return _ordered(("name",), fields) | present([("streams", streams or None)])


def _ordered(order: tuple[str, ...], fields: Mapping[str, Any]) -> dict[str, Any]:
    return in_order(order, fields) | {"params": in_order(_PARAMS_ORDER, fields)}
