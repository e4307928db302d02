"""A guest's configuration, as its administrator wrote it: an xl.cfg in a file."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from xenqemu.formats.config.domain_config import DomainConfig


@overload
def read_config(file: str | Path) -> DomainConfig: ...


@overload
def read_config(file: str | Path | None) -> DomainConfig | None: ...


def read_config(file: str | Path | None) -> DomainConfig | None:
    """Return what an xl.cfg says of a guest, None for no file.

    Raises `FormatError` for what is no xl.cfg, `OSError` where it cannot be read.
    """
    if file is None:
        return None
    from xenqemu.formats.config.xl_cfg import MAX_TEXT, GuestConfig  # noqa: PLC0415  seldom needed

    with Path(file).open("rb") as cfg:
        return GuestConfig.from_cfg(cfg.read(MAX_TEXT + 1)).domain_config()
