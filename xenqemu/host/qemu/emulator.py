"""What a QEMU program supports, asked before it is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from xenqemu.errors import HostError, HostTimeout
from xenqemu.shown_text import shown
from xenqemu.system.child import Done, finished

QUESTION_TIMEOUT = 30.0
"""Seconds that QEMU has to start and to answer."""

WORDS = 2000
"""Characters of its output that an error repeats."""

MONITOR = ("-nodefaults", "-machine", "none", "-display", "none", "-qmp", "stdio")
"""Without a machine, it talks QMP on its own streams."""

_DEVICE = re.compile(r'^name "([^"]+)"', re.MULTILINE)


def machines(program: str) -> dict[str, str]:
    """Return the machines that a QEMU has, with what each is an alias of ("" for none)."""
    words = ({"execute": name} for name in ("qmp_capabilities", "query-machines", "quit"))
    done = _run(program, MONITOR, "".join(map(json.dumps, words)), "machines")
    for answer in _answers(done.stdout):
        match answer:
            case [{"name": str()}, *_]:
                return {known["name"]: known.get("alias", "") for known in answer}
    raise _silent(program, "machines", done.stderr)


def devices(program: str) -> frozenset[str]:
    """Return the names of the devices that a QEMU has.

    By -device help, which needs no machine: a QEMU built for Xen only has none for a monitor.
    """
    done = _run(program, ("-device", "help"), "", "devices")
    names = frozenset(_DEVICE.findall(done.stdout))
    if not names:
        raise _silent(program, "devices", done.stderr)
    return names


def _run(program: str, words: tuple[str, ...], said: str, what: str) -> Done:
    question = f"cannot ask {program} for its {what}"
    try:
        return finished(
            program,
            [program, *words],
            QUESTION_TIMEOUT,
            said.encode(),
            start_error=lambda error: f"{question}: {error}",
        )
    except HostTimeout as error:
        raise HostError(f"{question}: timed out after {QUESTION_TIMEOUT:g} s") from error


def _answers(said: str) -> Iterator[Any]:
    """Yield the values of all answers among the messages."""
    for line in said.splitlines():
        with suppress(ValueError, RecursionError):  # not QMP, but something else that it says
            match json.loads(line):
                case {"return": value}:
                    yield value


def _silent(program: str, what: str, said: bytes) -> HostError:
    words = shown(said.decode(errors="replace").strip(), WORDS)
    return HostError(f"{program} does not list its {what}: {words}")
