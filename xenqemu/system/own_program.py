"""Our own modules as programs, wherever we were loaded from."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""What Python has our modules in: a folder, or xenqemu.pyz itself."""

MAIN = "__main__.py"


def own_program(module: str) -> list[str | Path]:
    """Return the words that run one of our modules; further words are its arguments.

    Where we lie by ourselves (xenqemu.pyz, /usr/lib/xenqemu), only the `__main__` there knows how
    the module and what is beside it are found.
    """
    if ROOT.is_file() or (ROOT / MAIN).exists():
        return [sys.executable, "-I", ROOT, "-m", module]
    return [sys.executable, "-m", module]
