"""What `compress` and `decompress` answer."""

from __future__ import annotations

from pathlib import Path

from xenqemu.cli import terminal
from xenqemu.quantities import in_bytes


def tell(what: str, file: Path, to: Path, *, as_json: bool) -> None:
    """Print what was done to `file`, where the result is, and its size beside that of `file`."""
    before, after = file.stat().st_size, to.stat().st_size
    if as_json:
        terminal.as_json({what: str(file), "to": str(to), "size": after}, indent=None)
    else:
        sizes = f"{in_bytes(after)}, {after / before:.1%} of {in_bytes(before)}"
        terminal.tell(f"{what} {file} to {to}: {sizes}")
