"""The configuration of a small lab guest."""

from __future__ import annotations

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.lab.command_line import Hardware

UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"


def config(text: str = "", machine: str = "pc-i440fx-7.2") -> DomainConfig:
    """Return the configuration of a small lab guest, with `text` of xl.cfg added."""
    cfg = f'name = "small"\nuuid = "{UUID}"\ntype = "hvm"\nmemory = 8\nvga = "none"\n{text}\n'
    return Hardware(machine, "tcg").kept_in(GuestConfig.from_cfg(cfg).config)
