"""A guest's configuration, as its administrator wrote it: an xl.cfg in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

from xenqemu.formats.config.domain_config import DomainConfig

if TYPE_CHECKING:
    from xenqemu.formats.config.xl_cfg import GuestConfig


def read_guest(file: Path) -> GuestConfig:
    """Return what an xl.cfg says; raise `FormatError` for what is none, `OSError` as the system."""
    from xenqemu.formats.config.xl_cfg import MAX_TEXT, GuestConfig  # noqa: PLC0415  seldom needed

    with file.open("rb") as cfg:
        return GuestConfig.from_cfg(cfg.read(MAX_TEXT + 1))


@overload
def read_config(file: str | Path) -> DomainConfig: ...


@overload
def read_config(file: str | Path | None) -> DomainConfig | None: ...


def read_config(file: str | Path | None) -> DomainConfig | None:
    """Return what an xl.cfg says of a guest, None for no file.

    Raises `FormatError` for what is no xl.cfg, `OSError` where it cannot be read.
    """
    return None if file is None else read_guest(Path(file)).domain_config()
