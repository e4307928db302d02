"""The command line, run within the tests or as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.golden import records
from xenqemu.cli.main import main

PROGRAM = [sys.executable, "-m", "xenqemu"]


class Done(NamedTuple):
    """What became of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A function that runs a command in this process; no host is chosen by the environment."""
    for name in ("XENQEMU_HOST", "XENQEMU_LAB", "XENQEMU_CONF"):
        monkeypatch.delenv(name, raising=False)
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def run(*words: object) -> Done:
        capsys.readouterr()
        code = main([os.fspath(word) if isinstance(word, Path) else str(word) for word in words])
        return Done(code, *capsys.readouterr())

    yield run
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


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


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record that stock xl wrote."""
    file = tmp_path_factory.mktemp("golden") / "vga.save"
    file.write_bytes(records.record("vga.save"))
    return file
