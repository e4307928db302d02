"""What commands make of what was chosen: a host, a guest's configuration."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from xenqemu.choose_host import open_host
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.protocol import Host
from xenqemu.settings.xenqemu_conf import Settings, read_settings


def host_of(
    chosen: argparse.Namespace, step: float | None = None, settings: Settings | None = None
) -> Host:
    """Return the chosen host; a guest has `step` seconds for each step, if that is given.

    The `settings` are those that are chosen, for who has read them already.  It is closed when the
    command is over.
    """
    settings = settings or read_settings(chosen.conf)
    deadlines = settings.deadlines
    if step is not None:
        deadlines = replace(deadlines, acknowledge=step, suspend=step)
    host = open_host(chosen.host, deadlines=deadlines, settings=settings)
    chosen.opened.callback(host.close)
    return host


def config_of(path: Path | None) -> DomainConfig | None:
    """Return what an xl.cfg says, None for no file."""
    if path is None:
        return None
    from xenqemu.formats.config.xl_cfg import MAX_TEXT, GuestConfig  # noqa: PLC0415  seldom needed

    with path.open("rb") as file:
        return GuestConfig.from_cfg(file.read(MAX_TEXT + 1)).domain_config()
