"""A program that leaves nothing running: all that it has started ends with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from xenqemu.errors import HostTimeout
from xenqemu.system.child import PIPE, OnOutput, started
from xenqemu.system.descriptors import memory_file
from xenqemu.system.own_program import own_program
from xenqemu.system.process import END_TIMEOUT
from xenqemu.system.signals import signals_deferred

REAPER = Path(__file__).with_name("reaper.py")
"""The program between us and the one that is run; why it is needed stands there."""

MAX_REPORT = 64
"""Bytes of its report at most."""


def run_contained(
    program: Path,
    given: bytes,
    seconds: float,
    *,
    stderr: OnOutput,
    environment: Mapping[str, str],
    folder: Path,
) -> int:
    """Run a program that reads `given`; return its exit status, negative for a signal.

    At its end all that it has started is killed, in whatever session that is.  Raises `OSError` if
    it cannot be started, `HostTimeout` if it did not end within `seconds`: then it is killed too.
    """
    with (
        memory_file(given) as file,  # it need not be read, and may be long
        memory_file() as report,
    ):
        with started(
            str(program),
            [*_reaper(), str(report), str(file), program],
            stdin=PIPE,
            stderr=stderr,
            descriptors=(report, file),
            environment=environment,
            folder=folder,
            new_session=True,
            eof_grace=END_TIMEOUT,
        ) as reaper:
            try:
                in_time = reaper.wait(seconds)
            finally:  # a second Ctrl-C must not end the reaper before its children
                with signals_deferred():
                    reaper.end()
        kind, _, number = os.pread(report, MAX_REPORT, 0).decode().partition(" ")
    if not kind:  # the reaper was killed, since it did not end either
        stays = f"is still there {END_TIMEOUT:g} s after SIGKILL"
        raise HostTimeout(f"{program}, or what it has started, {stays}")
    if kind == "errno":
        raise OSError(int(number), os.strerror(int(number)), str(program))
    if not in_time:
        raise HostTimeout(f"{program} was killed: it did not end within {seconds:g} s")
    return int(number)


def _reaper() -> list[str | Path]:
    """Return the words that run it: as it lies there, or out of xenqemu.pyz."""
    if REAPER.is_file():
        return [sys.executable, "-I", "-S", REAPER]
    return own_program("xenqemu.system.reaper")
