"""The outcomes where an operation is done to all domains: printed, and failures counted."""

from __future__ import annotations

import sys

from xenqemu.cli import terminal
from xenqemu.errors import HostError
from xenqemu.operations.outcome import How, Outcome


class Outcomes:
    """Prints the outcome for each domain, and counts those that failed or were forbidden."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._failed: list[str] = []

    def __call__(self, outcome: Outcome) -> None:
        """Print one outcome."""
        name, how, text = outcome.name, outcome.how, outcome.text
        if how in (How.FAILED, How.FORBIDDEN):
            self._failed.append(name)
        if self._as_json:
            terminal.as_json({"name": name, "outcome": how.value, "text": text}, indent=None)
        else:
            terminal.line(f"{name}: {how.value}{f' ({text})' if text else ''}")
        sys.stdout.flush()

    def raise_if_failed(self) -> None:
        """Raise `HostError` if any failed or was forbidden."""
        if self._failed:
            raise HostError(f"failed or forbidden, see above: {', '.join(self._failed)}")
