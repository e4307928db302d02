"""The administrator's hooks around a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from xenqemu.settings.hooks import Act, Hooks
from xenqemu.system.shown_text import printable


@contextmanager
def hooked(hooks: Hooks, act: Act, **about: object) -> Iterator[None]:
    """Run the hooks of `act` before and after the block; they get `about` as JSON.

    Raises `Forbidden` if one of them forbids it: the block is not run then.  Failures of later
    hooks are printed on standard error, or added as notes to the error of the block.
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
