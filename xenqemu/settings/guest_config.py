"""A guest's configuration, as its administrator wrote it: an xl.cfg in a file.

On a Xen host xl itself is asked what it makes of the file, elsewhere our tables are.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, overload

from xenqemu.errors import FormatError
from xenqemu.formats.config.domain_config import DomainConfig

if TYPE_CHECKING:
    from xenqemu.formats.config.xl_cfg import GuestConfig
    from xenqemu.host.protocol import Host

Complain = Callable[[str], None]
Release = tuple[int, int]


def read_guest(file: Path, host: Host | None = None, release: Release | None = None) -> GuestConfig:
    """Return what an xl.cfg says to the xl of `host`, or to that of a Xen `release`.

    Raises `FormatError` for what xl refuses and for what cannot be carried in a save file,
    `OSError` as the system, `HostError` if xl cannot be asked.
    """
    from xenqemu.formats.config.xl_cfg import GuestConfig  # noqa: PLC0415  seldom needed
    from xenqemu.formats.config.xl_cfg_settings import XEN_4_17, XlHost  # noqa: PLC0415

    data = read_text(file)
    try:
        if host is not None and host.kind == "xen" and release is None:
            from xenqemu.host.xen.xl.xl_dry_run import asked  # noqa: PLC0415  not in the lab

            return asked(file, data, host.deadlines)
        return GuestConfig.from_cfg(data, XlHost(os.cpu_count() or 1, release or XEN_4_17))
    except FormatError as error:
        where = f"{file}: {error.record}"
        raise type(error)(where, error.offset, error.expected, error.got) from error


def read_text(file: Path) -> bytes:
    """Return a file, or so much of it that it is seen to be too long."""
    from xenqemu.formats.config.xl_cfg_syntax import MAX_TEXT  # noqa: PLC0415  seldom needed

    with file.open("rb") as cfg:
        return cfg.read(MAX_TEXT + 1)


@overload
def read_config(
    file: str | Path,
    host: Host | None = None,
    complain: Complain = warnings.warn,
    release: Release | None = None,
) -> DomainConfig: ...


@overload
def read_config(
    file: str | Path | None,
    host: Host | None = None,
    complain: Complain = warnings.warn,
    release: Release | None = None,
) -> DomainConfig | None: ...


def read_config(
    file: str | Path | None,
    host: Host | None = None,
    complain: Complain = warnings.warn,
    release: Release | None = None,
) -> DomainConfig | None:
    """Return what an xl.cfg says of a guest to the xl of `host`, None for no file.

    A Xen `release`, (4, 17) or (4, 20), takes the place of the host's.

    `complain` is called with what xl warns of, and with the names that it does not know.  Raises
    `FormatError` for what xl refuses and for what cannot be carried in a save file, `OSError`
    where the file cannot be read, `HostError` if xl cannot be asked.
    """
    if file is None:
        return None
    guest = read_guest(Path(file), host, release)
    for complaint in complaints(guest):
        complain(f"{file}: {complaint}")
    return guest.config


def complaints(guest: GuestConfig) -> list[str]:
    """Return what is to be said of a file, for people."""
    ignored = [f"ignored, as by xl: {', '.join(guest.ignored)}"] if guest.ignored else []
    return [*guest.warnings, *ignored]
