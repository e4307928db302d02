"""What becomes of each domain where something is done to all: shown, and counted where it fails."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from xenqemu.cli import show
from xenqemu.errors import HostError
from xenqemu.operations.outcome import How, Outcome


class Outcomes:
    """Shows what becomes of each domain, and counts those that it is not well with."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._failed: list[str] = []

    def __call__(self, outcome: Outcome) -> None:
        """Be the teller of all."""
        name, how, text = outcome.name, outcome.how, outcome.text
        if how in (How.FAILED, How.FORBIDDEN):
            self._failed.append(name)
        with suppress(OSError):  # nobody hears us any more, which is no matter of the domains
            if self._as_json:
                show.line(json.dumps({"name": name, "outcome": how.value, "text": text}))
            else:
                show.line(f"{name}: {how.value}{f' ({text})' if text else ''}")
            sys.stdout.flush()

    def conclude(self) -> None:
        """Raise `HostError` if anything failed."""
        if self._failed:
            raise HostError(f"not all is well, see above: {', '.join(self._failed)}")
