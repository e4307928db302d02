"""The administrator's own programs around a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from xenqemu.cli.show import printable
from xenqemu.settings.hooks import Act, Hooks


@contextmanager
def hooked(hooks: Hooks, act: Act, **about: object) -> Iterator[None]:
    """Run the hooks of `act` before and after the block; those are told `about`.

    Raises `Forbidden` if one of them does not allow it: the block is not run then.  What goes wrong
    with hooks afterwards is told on standard error, or noted at the error of the block.
    """
    hooks.run("pre", act, about)
    try:
        yield
    except BaseException as error:
        for complaint in hooks.run("failed", act, {**about, "error": str(error)}):
            error.add_note(complaint)
        raise
    for complaint in hooks.run("post", act, about):
        sys.stderr.write(f"xenqemu: {printable(complaint)}\n")
