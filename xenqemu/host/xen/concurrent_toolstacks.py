"""Other programs that work on a domain: `xl save` takes no lock that could be tested.

They are found in /proc by what they execute, as root or as our own user, and by their command
lines; what another user runs could not touch a domain, whatever it is called::

    xl [-vfNtT…] save|migrate|… DOM …          DOM is a name or an id
    xl [-vfNtT…] shutdown|reboot -a            all of them
    libxl-save-helper --save-domain …          by the argument list of this version of Xen
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import dropwhile
from pathlib import Path

from xenqemu.errors import FormatError
from xenqemu.host.domain import Domain
from xenqemu.host.xen.releases import Version
from xenqemu.shown_text import shown
from xenqemu.system.process import PROC, Command, commands

MOST_WORDS = 80
"""Characters of a command line that an error shows."""

VERBS = {"save", "migrate", "remus", "suspend", "resume", "destroy", "shutdown", "reboot"}
"""Commands of xl that end, stop or resume a domain."""

ALL = ("-a", "--all")
"""Options of xl that mean all domains."""


def concurrent_toolstacks(domain: Domain, version: Version, proc: Path = PROC) -> list[str]:
    """Return the other programs that save, stop or end a domain, for people."""
    return [
        f"process {each.pid} ({shown(' '.join(each.words)[:MOST_WORDS])})"
        for each in commands(proc)
        if _works_on(each, domain, version)
    ]


def _works_on(command: Command, domain: Domain, version: Version) -> bool:
    words = command.words
    match Path(command.program).name:
        case "xl":
            verb, *rest = [*dropwhile(lambda word: word.startswith("-"), words[1:])] or [""]
            return verb in VERBS and not {str(domain.domid), domain.name, *ALL}.isdisjoint(rest)
        case "libxl-save-helper":
            return _saves(words[1:], domain.domid, version)
    return False


def _saves(arguments: Sequence[str], domid: int, version: Version) -> bool:
    from xenqemu.formats.helper.dialects import SAVE, parse_arguments  # noqa: PLC0415  few run

    try:
        call = parse_arguments(arguments, version)
    except FormatError:  # a helper of another version
        return False
    return call.mode == SAVE and call.values["domid"] == domid
