"""Which host a command works on."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from xenqemu.errors import HostError, UsageError
from xenqemu.lab.host import Lab

CAPABILITIES = Path("/proc/xen/capabilities")
"""Holds "control_d" in a domain that controls its host."""


def choose(words: str) -> Lab:
    """Return the host that `--host` names; raise `UsageError` or `HostError` if there is none."""
    kind, _, folder = words.partition(":")
    if kind == "lab":
        return Lab(Path(folder) if folder else default_lab())
    if words == "auto" and not is_dom0():
        return Lab(default_lab())
    if words in ("auto", "xen"):
        raise HostError(f"this is no Xen dom0: {CAPABILITIES} does not say control_d")
    raise UsageError(f"--host {words!r} is none of xen, lab, lab:DIR, auto")


def is_dom0() -> bool:
    """Tell whether this machine is the control domain of a Xen host."""
    try:
        return "control_d" in CAPABILITIES.read_text()
    except OSError:
        return False


def default_lab() -> Path:
    """Return the lab's folder: $XENQEMU_LAB, or one of our own in memory."""
    named = os.environ.get("XENQEMU_LAB")
    if named:
        return Path(named)
    memory = Path("/dev/shm")  # `Lab.up` refuses a folder that is not ours alone
    base = memory if memory.is_dir() else Path(tempfile.gettempdir())
    return base / f"xenqemu-lab-{os.geteuid()}"
