"""The way to another host, as xl's options name it: which command is run there for what.

::

    xl migrate DOM HOST              exec ssh HOST xl migrate-receive …
    xl migrate -s CMD DOM HOST       exec CMD HOST xl migrate-receive …
    xl migrate -s "" DOM COMMAND     COMMAND, as it stands

These are lines for a shell.  Where command, or host, is given as words instead, no shell sees them.

A xenqemu is tried first there, then xl.  A COMMAND that ends in
`xenqemu … migrate-receive` is known to lead to one, and gets options behind it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import UsageError

XENQEMU = "xenqemu"
XL = "xl"

_OURS = re.compile(r"\bxenqemu\b[^;&|<>()]*\smigrate-receive(\s+-[^;&|<>()]*)?\s*")
"""How a command ends that runs a xenqemu as its last program."""


RECEIVE = "migrate-receive"

Rune = str | tuple[str, ...]
"""A command: a line for a shell, or words for none."""


def shown_rune(rune: Rune) -> str:
    """Return a command as it is written for a shell."""
    return rune if isinstance(rune, str) else shlex.join(rune)


@dataclass(frozen=True)
class Route:
    """The way by `command` to `host`; if `command` is empty, `host` is the whole command."""

    host: Rune
    command: Rune = "ssh"

    def __post_init__(self) -> None:
        """Raise `UsageError` for no host, or one that would be an option of the command."""
        named = isinstance(self.host, str) and not self.host.startswith("-")
        shell = isinstance(self.command, str)
        if not self.host or (self.command and not shell and not named):
            raise UsageError(f"{self.host!r} cannot be the name of a host")

    @property
    def name(self) -> str:
        """The host, or the whole command, for people."""
        return shown_rune(self.host)

    @property
    def programs(self) -> tuple[str, ...]:
        """What may receive a guest there, in the order to try."""
        if self.command:
            return XENQEMU, XL
        return (XENQEMU,) if self._leads_to_xenqemu() else (XL,)

    def receiver(self, program: str, *options: str) -> Rune:
        """Return the command that runs a receiver there.

        Raises `UsageError` if a whole command is to get options and may not end in a receiver.
        """
        if self.command:
            return self.run(program, RECEIVE, *options)
        if options and program == XL:
            raise UsageError(f"write {' '.join(options)} into the command: {self.name}")
        if isinstance(self.host, str):
            return " ".join([self.host, *options])
        return (*self.host, *options)

    def run(self, *words: str) -> Rune:
        """Return the command that runs something there; not where `host` is the whole of it."""
        if isinstance(self.command, str):
            return " ".join(["exec", self.command, self.name, *words])
        return (*self.command, self.name, *words)

    def _leads_to_xenqemu(self) -> bool:
        if isinstance(self.host, str):
            found = list(_OURS.finditer(self.host))
            return bool(found) and found[-1].end() == len(self.host)
        before = self.host[: self.host.index(RECEIVE)] if RECEIVE in self.host else ()
        return any(Path(word).name == XENQEMU for word in before)
