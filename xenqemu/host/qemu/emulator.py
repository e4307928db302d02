"""What a QEMU program supports, asked before it is needed.

What it answered is kept as long as the program is the same file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from xenqemu.errors import HostError, HostTimeout
from xenqemu.shown_text import shown
from xenqemu.system.child import Done, finished

QUESTION_TIMEOUT = 30.0
"""Seconds that QEMU has to start and to answer."""

WORDS = 2000
"""Characters of its output that an error repeats."""

MONITOR = ("-nodefaults", "-machine", "none", "-display", "none", "-qmp", "stdio")
"""Without a machine, it talks QMP on its own streams."""

DUMP = (
    *("-machine", "none,accel=tcg:qtest", "-nodefaults", "-display", "none"),
    *("-dump-vmstate", "/dev/stdout"),
)
"""Has a QEMU say how it saves each device, with no machine and no Xen, and end.

A QEMU built for Xen alone has qtest and no TCG, Debian's other one has qtest as a module.
"""

KEPT = 16
"""Answers that are kept at most; a host has one QEMU or two, and there are three questions."""

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


class Versions(NamedTuple):
    """The oldest and the newest version of a device's state that a QEMU loads."""

    oldest: int
    newest: int


def device_states(program: str) -> Mapping[str, Versions]:
    """Return which versions a QEMU loads of the state of each device, by the state's name.

    That is what follows the last slash in the name of a section.  It has those that belong to a
    class of devices: "cpu", "timer" and a few others are registered by the machine and not in it.
    Source: dump_vmstate_json_to_file of QEMU's migration/savevm.c.
    """
    done = _run(program, DUMP, "", "device states")
    known: dict[str, Versions] = {}
    for name, found in _states(done.stdout):
        before = known.get(name, found)  # several classes have one state, as PIIX3
        known[name] = Versions(min(before.oldest, found.oldest), max(before.newest, found.newest))
    if not known:
        raise _silent(program, "device states", done.stderr)
    return known


def unknown_states(program: str, guest: str, devices: Mapping[str, int]) -> Iterator[HostError]:
    """Yield each device of a guest whose state, of the version in `devices`, a QEMU cannot load."""
    known = device_states(program) if devices else {}
    for name, version in devices.items():
        loaded = known.get(name, Versions(version, version))
        if not loaded.oldest <= version <= loaded.newest:
            yield HostError(
                f"{guest} has the state of {shown(name)} in version {version}: "
                f"{program} loads {loaded.oldest} to {loaded.newest}"
            )


def _states(said: str) -> Iterator[tuple[str, Versions]]:
    try:
        dumped = json.loads(said)
    except (ValueError, RecursionError):
        return
    for device in dumped.values() if isinstance(dumped, dict) else ():
        match device:
            case {
                "Description": {
                    "name": str(name),
                    "version_id": int(newest),
                    "minimum_version_id": int(oldest),
                }
            }:
                yield name, Versions(oldest, newest)


def _run(program: str, words: tuple[str, ...], said: str, what: str) -> Done:
    return _asked(program, words, said, what, _identity(program))


def _identity(program: str) -> tuple[int, ...]:
    """Return what is another one once the program is another file; empty if there is none."""
    places = (Path(folder, program) for folder in os.get_exec_path())
    path = next((place for place in places if os.access(place, os.X_OK)), None)
    if path is None:
        return ()
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(KEPT)
def _asked(
    program: str, words: tuple[str, ...], said: str, what: str, _file: tuple[int, ...]
) -> Done:
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
