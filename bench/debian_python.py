"""Python as a host has it: a virtual environment loads more before any program."""

from __future__ import annotations

import os
from pathlib import Path

import xxhash
from lab_guests import ROOT

PYTHON = "/usr/bin/python3"


def environment() -> dict[str, str]:
    """Return ours, in which this checkout and what it needs are found and bytecode is kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": f"{ROOT}:{Path(xxhash.__file__).parents[1]}"}
