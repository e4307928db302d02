"""Other programs that work on a domain: a save of xl takes no lock that could be asked for.

What they are called with says it, as /proc shows it::

    xl [-vfNtT…] save|migrate|… DOM …          DOM is a name or an id
    libxl-save-helper --save-domain …          by the argument list of this version of Xen
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xenqemu.errors import FormatError
from xenqemu.host.process import commands
from xenqemu.host.xen.releases import Version

PROC = Path("/proc")

VERBS = {"save", "migrate", "remus", "suspend", "resume", "destroy", "shutdown", "reboot"}
"""Commands of xl that end a domain, stop it, or let it go on."""

HELPER = "libxl-save-helper"


def rivals(domid: int, name: str, version: Version, proc: Path = PROC) -> list[str]:
    """Return the other programs that save, stop or end a domain, for people."""
    return [
        f"process {pid} ({' '.join(words)[:80]})"
        for pid, words in commands(proc)
        if _works_on(words, domid, name, version)
    ]


def _works_on(words: Sequence[str], domid: int, name: str, version: Version) -> bool:
    program = Path(words[0]).name
    if program == "xl":
        rest = [word for word in words[1:] if not word.startswith("-")]
        return bool(rest) and rest[0] in VERBS and bool({str(domid), name} & {*rest[1:]})
    return program == HELPER and _saves(words[1:], domid, version)


def _saves(arguments: Sequence[str], domid: int, version: Version) -> bool:
    from xenqemu.formats.helper_dialects import SAVE, parse_arguments  # noqa: PLC0415  few run

    try:
        call = parse_arguments(arguments, version)
    except FormatError:  # a helper of another kind, whose words are not known
        return False
    return call.mode == SAVE and call.values["domid"] == domid
