"""The way to another host, as xl's options name it: which command is run there for what.

::

    xl migrate DOM HOST              exec ssh HOST xl migrate-receive …
    xl migrate -s CMD DOM HOST       exec CMD HOST xl migrate-receive …
    xl migrate -s "" DOM COMMAND     COMMAND, as it stands

A xenqemu is tried first there, then xl.  A COMMAND that ends in
`xenqemu … migrate-receive` is known to lead to one, and gets options behind it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xenqemu.errors import UsageError

XENQEMU = "xenqemu"
XL = "xl"

_OURS = re.compile(r"\bxenqemu\b[^;&|<>()]*\smigrate-receive(\s+-[^;&|<>()]*)?\s*")
"""How a command ends that runs a xenqemu as its last program."""


@dataclass(frozen=True)
class Route:
    """The way by `command` to `host`; if `command` is "", `host` is the whole command."""

    host: str
    command: str = "ssh"

    @property
    def programs(self) -> tuple[str, ...]:
        """What may receive a guest there, in the order to try."""
        if self.command:
            return XENQEMU, XL
        found = list(_OURS.finditer(self.host))
        return (XENQEMU,) if found and found[-1].end() == len(self.host) else (XL,)

    def receiver(self, program: str, *options: str) -> str:
        """Return the command that runs a receiver there.

        Raises `UsageError` if a whole command is to get options and may not end in a receiver.
        """
        if self.command:
            return self.run(program, "migrate-receive", *options)
        if options and program == XL:
            raise UsageError(f"write {' '.join(options)} into the command: {self.host}")
        return " ".join([self.host, *options])

    def run(self, *words: str) -> str:
        """Return the command that runs something there; not where `host` is the whole of it."""
        return " ".join(["exec", self.command, self.host, *words])
