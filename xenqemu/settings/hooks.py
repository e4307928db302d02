"""The administrator's programs, run before and after a save, a restore or a migration.

::

    FOLDER/pre-save.d/        before the guest is touched; each may forbid it
    FOLDER/post-save.d/       once it is done
    FOLDER/failed-save.d/     once it has failed, whatever was left undone
    …restore.d, …migrate.d    the same

Of each folder those programs are run that run-parts(8) would run: executable files whose names are
of letters, digits, "_" and "-", in the order of their names, one after another.  A program reads
what is done as JSON on its standard input, has a deadline, and an environment of its own.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xenqemu.errors import Forbidden, HostError, HostTimeout
from xenqemu.system.child import started
from xenqemu.system.descriptors import memory_file
from xenqemu.system.program_output import OutputTail

Moment = Literal["pre", "post", "failed"]
Act = Literal["save", "restore", "migrate"]

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""The whole environment of a hook: what it needs to know is on its standard input."""


@dataclass(frozen=True)
class Hooks:
    """The hooks in the folders below `folder`; each has `deadline` seconds."""

    folder: Path = Path("/etc/xenqemu/hooks.d")
    deadline: float = 60.0

    def run(self, moment: Moment, act: Act, about: Mapping[str, object]) -> tuple[str, ...]:
        """Run all hooks of one moment; each is told `about`, with "moment" and "act" added.

        Raises `Forbidden` if a hook of "pre" fails, with its standard error, and if it cannot be
        run, is not trusted, or has to be killed.  Otherwise all hooks are run, and the errors are
        returned, in words.
        """
        data = json.dumps({"moment": moment, "act": act, **about}).encode()
        complaints = []
        for failure in self._failures(f"{moment}-{act}.d", data):
            if moment == "pre":
                raise Forbidden(str(failure)) from failure
            complaints.append(str(failure))
        return tuple(complaints)

    def _failures(self, name: str, data: bytes) -> Iterator[HostError]:
        """Run one hook after another, and yield what went wrong with each before the next."""
        try:
            hooks = _programs(self.folder, name)
        except HostError as error:
            yield error
            return
        for hook in hooks:
            try:
                _run(hook, data, self.deadline)
            except HostError as error:
                yield error


def _programs(folder: Path, name: str) -> list[Path]:
    """Return the hooks of one folder in their order, none if there is no such folder."""
    try:
        found = sorted((folder / name).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{folder / name}: the hooks cannot be read: {error.strerror}") from error
    for place in (folder, folder / name):
        _require_trusted(place)
    named = [path for path in found if re.fullmatch("[A-Za-z0-9_-]+", path.name)]
    return [path for path in named if path.is_file() and os.access(path, os.X_OK)]


def _require_trusted(path: Path) -> None:
    """Raise `HostError` if somebody else could have put there what we are to run."""
    try:
        status = path.stat()
    except OSError as error:
        raise HostError(f"{path} is not run: {error.strerror}") from error
    if status.st_uid not in {0, os.geteuid()}:
        raise HostError(f"{path} is not run: it is owned by user {status.st_uid}, not by root")
    if stat.S_IMODE(status.st_mode) & stat.S_IWOTH:
        raise HostError(f"{path} is not run: everyone may write to it (chmod o-w)")


def _run(hook: Path, data: bytes, seconds: float) -> None:
    """Run one hook to its end; raise `HostError` with its words if it fails.

    What it leaves running is not waited for, but killed with a hook that does not end.
    """
    _require_trusted(hook)
    said = OutputTail()
    with (
        memory_file(data) as given,  # a hook need not read it, and it may be long
        started(
            str(hook),
            [hook],
            stdin=given,
            stderr=said.keep,
            environment=ENVIRONMENT,
            folder=Path("/"),
            kill_group=True,
            start_error=lambda error: f"{hook} cannot be run: {error.strerror}",
        ) as process,
    ):
        in_time = process.wait(seconds)
    if not in_time:
        raise HostTimeout(f"{hook} was killed: it did not end within {seconds:g} s")
    if process.status:
        how = f"exit status {process.status}" if process.status > 0 else f"signal {-process.status}"
        raise HostError(f"{hook} failed ({how}): {said}")
