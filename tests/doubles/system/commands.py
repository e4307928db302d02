"""Commands of xenqemu, run as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

PROGRAM = [sys.executable, "-m", "xenqemu"]


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return answer(self.out)


def answer(text: str) -> Any:
    """Return what a command answered as JSON, without the version that all of it has."""
    found = json.loads(text)
    assert found.pop("version") == 1
    return found


def spawn(
    *words: object, data: bytes = b"", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a command as a process, with a pipe for its input."""
    return subprocess.run(
        [*PROGRAM, *map(str, words)],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environment or {})},
    )
