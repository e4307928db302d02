"""Devices whose specs are keys and values: what a kind is, and how all of it are read.

xl has its own loop for each kind (xl_parse.c).  They differ in what a piece without "=" and an
unknown key come to: `Kind` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from xenqemu.formats.config.xl_cfg_rows import Reader
from xenqemu.formats.config.xl_cfg_settings import XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import (
    Take,
    as_text,
    in_order,
    options,
    pair,
    pieces,
    taken,
)

BACKEND = {"backend": ("backend_domname", as_text)}


class Else(Enum):
    """What becomes of what is not understood."""

    REFUSED = "refused"
    WARNED_OF = "warned of"
    IGNORED = "ignored"
    END = "ends the spec"


@dataclass(frozen=True)
class Kind:
    """A kind of device: its `keys` make fields, which stand in `order`.

    `bare` and `unknown` say what becomes of pieces without "=" and of unknown keys; `trimmed`
    that blanks around both sides are cut off.  `numbered` gives it its place as devid.
    """

    key: str
    order: tuple[str, ...]
    keys: Mapping[str, tuple[str, Take]]
    bare: Else = Else.REFUSED
    unknown: Else = Else.REFUSED
    trimmed: bool = False
    numbered: bool = True
    needed: Mapping[str, str] = field(default_factory=dict)

    def device(self, cfg: XlCfgSettings, spec: str, place: int) -> dict[str, Any]:
        """Return the fields of one spec, not yet in order."""
        fields: dict[str, Any] = {"devid": place} if self.numbered else {}
        for piece, key, value in self._pairs(cfg, spec):
            if key in self.keys:
                name, take = self.keys[key]
                fields[name] = taken(cfg, self.key, take, value)
            elif not self._passed_over(cfg, piece, self.unknown if key else self.bare):
                break
        for name, key in self.needed.items():
            if name not in fields:
                raise cfg.wrong(self.key, f"{key}=…", "none")
        return fields

    def _pairs(self, cfg: XlCfgSettings, spec: str) -> Iterator[tuple[str, str, str]]:
        if self.trimmed:
            for piece in pieces(spec):
                yield (piece, *pair(cfg, self.key, piece))
        else:
            yield from options(spec)

    def _passed_over(self, cfg: XlCfgSettings, piece: str, fate: Else) -> bool:
        if fate is Else.REFUSED:
            raise cfg.bad(self.key, "one of " + ", ".join(self.keys), piece)
        if fate is Else.WARNED_OF:
            cfg.warn(self.key, f"{piece[:40]!r} is ignored, as by xl")
        return fate is not Else.END


Finish = Callable[[XlCfgSettings, dict[str, Any]], Mapping[str, Any]]


def devices(
    kind: Kind | Callable[[XlCfgSettings], Kind], finish: Finish = lambda _cfg, fields: fields
) -> Reader:
    """Read all devices of a kind; `finish` checks and completes the fields of each."""

    def read(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
        this = kind if isinstance(kind, Kind) else kind(cfg)
        specs = enumerate(cfg.texts(this.key) or ())
        made = (finish(cfg, this.device(cfg, spec, place)) for place, spec in specs)
        return [in_order(this.order, fields) for fields in made] or None

    return read
