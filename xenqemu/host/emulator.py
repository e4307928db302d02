"""A QEMU program, asked what it knows: without a machine, it talks QMP on its own streams."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from xenqemu.errors import HostError

QUESTION_TIMEOUT = 30.0
"""Seconds that QEMU has to start and to answer."""

WORDS = 2000
"""Bytes of what it says that an error repeats."""

Question = Mapping[str, Any]
MACHINES: Question = {"execute": "query-machines"}
DEVICES: Question = {"execute": "qom-list-types", "arguments": {"implements": "device"}}


def machines(program: str) -> dict[str, str]:
    """Return the machines that a QEMU has, with what each is an alias of ("" for none)."""
    match _ask(program, MACHINES, "machines"):
        case [{"name": str()}, *_] as known:
            return {each["name"]: each.get("alias", "") for each in known}
    raise HostError(f"{program} has no machines")


def devices(program: str) -> frozenset[str]:
    """Return the names of the devices that a QEMU has."""
    match _ask(program, DEVICES, "devices"):
        case [{"name": str()}, *_] as known:
            return frozenset(each["name"] for each in known)
    raise HostError(f"{program} has no devices")


def _ask(program: str, question: Question, what: str) -> list[Any]:
    """Return the list that QEMU answers; its other answers are empty objects."""
    words = [{"execute": "qmp_capabilities"}, question, {"execute": "quit"}]
    try:
        done = subprocess.run(
            [program, "-nodefaults", "-machine", "none", "-display", "none", "-qmp", "stdio"],
            input="".join(map(json.dumps, words)),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=QUESTION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"cannot ask {program} for its {what}: {error}") from error
    for answer in _answers(done.stdout):
        if isinstance(answer, list):
            return answer
    raise HostError(f"{program} does not list its {what}: {done.stderr.strip()[:WORDS]}")


def _answers(said: str) -> Iterator[Any]:
    """Give the values of all answers among the messages."""
    for line in said.splitlines():
        with suppress(ValueError):  # not QMP, but something else that it says
            match json.loads(line):
                case {"return": value}:
                    yield value
