"""What starting takes: the instructions of a command until it opens its file."""

from __future__ import annotations

import re
import shutil
import subprocess

from debian_python import PYTHON, environment
from row import Bench, Row, Values, in_turns

COUNTER = (
    *("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"),
    *(PYTHON, "-P", "-c"),
)
PROGRAM = "import sys; from xenqemu.cli.main import main; sys.exit(main())"

_COUNTED = re.compile(rb"I +refs: +([0-9,]+)")


def instructions(program: str, *words: str) -> float:
    """Return how many millions of instructions a program takes, whatever its exit status."""
    found = _COUNTED.search(_run([*COUNTER, program, *words]))
    if found is None:
        raise RuntimeError("valgrind has counted nothing")
    return int(found[1].replace(b",", b"")) / 1e6


def _run(words: list[str]) -> bytes:
    """Run a program of Python that keeps its bytecode; return its standard error."""
    return subprocess.run(words, check=False, capture_output=True, env=environment()).stderr


def start(bench: Bench, *words: str) -> Values:
    """Return the millions of instructions of a command, and those of Python alone."""
    _run([PYTHON, "-P", "-c", PROGRAM, *words])  # so that all is compiled
    return in_turns(
        bench.rounds,
        lambda: instructions(PROGRAM, *words),
        lambda: instructions("pass"),
        unit="M instructions",
        speed=False,
    )


def no_counter() -> str:
    """Return why instructions cannot be counted."""
    missing = [name for name in ("valgrind", PYTHON) if not shutil.which(name)]
    return f"there is no {missing[0]}" if missing else ""


START_ROWS = (
    Row(
        *("start-verify", "start of verify", "python3 -c pass", "<= 3 times"),
        *(lambda bench: start(bench, "verify", "/no such file"), no_counter),
    ),
    Row(
        *("start-help", "--help", "python3 -c pass", "<= 3 times"),
        *(lambda bench: start(bench, "--help"), no_counter),
    ),
)
