"""What the commands share: the state they work on, and the table of which version has which."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xenqemu.lab.reference_device_model.fdsets import FdSets
from xenqemu.lab.reference_device_model.qemu_versions import Refusal, Version
from xenqemu.lab.reference_device_model.registry import Registry
from xenqemu.lab.reference_device_model.run_states import ModelMachine

Arguments = Mapping[str, Any]

_JSON_NAMES = {str: "string", int: "integer", bool: "boolean"}


class Ended(Exception):
    """The process ends normally, by `quit`."""


@dataclass
class Model:
    """All that the commands work on; `take_fd` returns the descriptor that came with a command."""

    version: Version
    machine: ModelMachine
    registry: Registry
    blockers: list[str]
    emit: Callable[[str], None]
    take_fd: Callable[[], int | None]
    fdsets: FdSets = field(default_factory=FdSets)
    names: dict[str, int] = field(default_factory=dict)
    migration: dict[str, object] = field(default_factory=dict)
    later: list[Callable[[], None]] = field(default_factory=list)

    def received_fd(self) -> int:
        """Return the descriptor that came with the command."""
        fd = self.take_fd()
        if fd is None:
            raise Refusal("No file descriptor supplied via SCM_RIGHTS")
        return fd

    def close(self) -> None:
        """Close the descriptors that clients handed over."""
        self.fdsets.close()
        while self.names:
            os.close(self.names.popitem()[1])


@dataclass(frozen=True)
class Command:
    """A command as it is in the versions from `since` to before `until`."""

    run: Callable[[Model, Arguments], object]
    since: Version
    until: Version
    required: Mapping[str, type]
    optional: Mapping[str, type]

    def checked(self, arguments: object) -> Arguments:
        """Return `arguments` if they are what the command takes."""
        if not isinstance(arguments, dict):
            raise Refusal("QMP input member 'arguments' must be an object")
        for name in self.required:
            if name not in arguments:
                raise Refusal(f"Parameter '{name}' is missing")
        known = {**self.required, **self.optional}
        for name, value in arguments.items():
            if name not in known:
                raise Refusal(f"Parameter '{name}' is unexpected")
            if type(value) is not known[name]:
                expected = _JSON_NAMES[known[name]]
                raise Refusal(f"Invalid parameter type for '{name}', expected: {expected}")
        return arguments


_NEVER: Version = (1 << 30, 0, 0)
_COMMANDS: list[tuple[str, Command]] = []

Run = Callable[[Model, Arguments], object]


def command(
    name: str,
    since: Version = (0, 14, 0),
    until: Version = _NEVER,
    *,
    required: Mapping[str, type] | None = None,
    optional: Mapping[str, type] | None = None,
) -> Callable[[Run], Run]:
    """Make a function the command `name` of a range of versions."""

    def add(run: Run) -> Run:
        _COMMANDS.append((name, Command(run, since, until, required or {}, optional or {})))
        return run

    return add


def known(version: Version) -> dict[str, Command]:
    """Return the commands of one version by name."""
    return {name: each for name, each in _COMMANDS if each.since <= version < each.until}
