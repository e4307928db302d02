"""Our own modules as programs, wherever we were loaded from."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""What Python has our modules in: a folder, or xenqemu.pyz itself."""

MAIN = "__main__.py"
CALLED_AS = Path(__file__).parents[1] / "called_as.py"


def own_program(module: str) -> list[str | Path]:
    """Return the words that run one of our modules; further words are its arguments.

    Where we lie by ourselves (xenqemu.pyz, /usr/lib/xenqemu), only the `__main__` there knows how
    the module and what is beside it are found.  In any case nothing is loaded from the folder that
    we were called in, which may be anybody's.
    """
    if ROOT.is_file() or (ROOT / MAIN).exists():
        return [sys.executable, "-I", ROOT, "-m", module]
    return [sys.executable, "-P", CALLED_AS, "-m", module]
