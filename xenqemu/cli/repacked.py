"""What `compress` and `decompress` answer."""

from __future__ import annotations

from pathlib import Path

from xenqemu.cli import terminal


def tell(what: str, file: Path, to: Path, *, as_json: bool) -> None:
    """Print what was done to `file`, where the result is, and its size beside that of `file`."""
    before, after = file.stat().st_size, to.stat().st_size
    if as_json:
        terminal.as_json({what: str(file), "to": str(to), "size": after}, indent=None)
    else:
        terminal.line(f"{what} {file} to {to}: {after} bytes, {after / before:.1%} of {before}")
