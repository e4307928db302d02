"""The settings of a command: the file's, and what its arguments say instead."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from xenqemu.choose_host import for_all_guests
from xenqemu.settings.xenqemu_conf import Metrics, Settings, read_settings

if TYPE_CHECKING:
    from xenqemu.host.protocol import Host


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Return the settings; raise as `read_settings`."""
    return _with(chosen, read_settings(chosen.conf))


def settings_for_all(
    chosen: argparse.Namespace, host: Host, complain: Callable[[str], None] = lambda _text: None
) -> Settings:
    """Return the settings for all guests of a host; raise and `complain` as `for_all_guests`."""
    return _with(chosen, for_all_guests(host, chosen.conf, complain))


def _with(chosen: argparse.Namespace, settings: Settings) -> Settings:
    return settings.but(metrics=Metrics(chosen.metrics)) if chosen.metrics else settings
