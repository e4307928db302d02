"""The administrator's programs, run before and after a save, a restore or a migration.

::

    FOLDER/pre-save.d/        before the guest is touched; each may forbid it
    FOLDER/post-save.d/       once it is done
    FOLDER/failed-save.d/     once it has failed, whatever was left undone
    …restore.d, …migrate.d, …receive.d    the same

Of each folder those programs are run that run-parts(8) would run: executable files whose names are
of letters, digits, "_" and "-", in the order of their names, one after another.  Of what else is
there `passed_over` tells.  A program reads what is done as JSON on its standard input, has a
deadline, and an environment of its own; all that it has started ends with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

from xenqemu.errors import Forbidden, HostError, in_words
from xenqemu.frozen import Frozen
from xenqemu.settings import hook_files
from xenqemu.system.writers import require_sole_writers, trusted_ids

Moment = Literal["pre", "post", "failed"]
Act = Literal["save", "restore", "migrate", "receive"]

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""The whole environment of a hook: what it needs to know is on its standard input."""

FOLDER = Path("/etc/xenqemu/hooks.d")


class Hooks(Frozen):
    """The hooks in the folders below `folder`; each has `deadline` seconds."""

    folder: Path = FOLDER
    deadline: float = 60.0

    def run(self, moment: Moment, act: Act, about: Mapping[str, object]) -> tuple[str, ...]:
        """Run all hooks of one moment; each is told `about`, with "moment" and "act" added.

        Raises `Forbidden` if a hook of "pre" fails, with its standard error, and if it cannot be
        run, is not trusted, or has to be killed.  Otherwise all hooks are run, and the errors are
        returned, in words.
        """
        data = json.dumps({"moment": moment, "act": act, **about}).encode()
        complaints = []
        for failure in self._failures(_folder(moment, act), data):
            if moment == "pre":
                raise Forbidden(str(failure)) from failure
            complaints.append(str(failure))
        return tuple(complaints)

    def passed_over(self, act: Act) -> list[str]:
        """Return what is not run at `act`, and may have been meant to be, each with the reason."""
        if self.folder != FOLDER and not self.folder.exists():
            return [f"{self.folder}: there is no such folder of hooks"]
        names = [_folder(moment, each) for moment in get_args(Moment) for each in get_args(Act)]
        looked_at = [_folder(moment, act) for moment in get_args(Moment)]
        return [*hook_files.passed_over(self.folder, names, looked_at)]

    def _failures(self, name: str, data: bytes) -> Iterator[HostError]:
        """Run one hook after another, and yield what went wrong with each before the next."""
        try:
            hooks = hook_files.programs(self.folder / name)
        except HostError as error:
            yield error
            return
        for hook in hooks:
            try:
                _run(hook, data, self.deadline)
            except HostError as error:
                yield error


def _folder(moment: Moment, act: Act) -> str:
    return f"{moment}-{act}.d"


def _run(hook: Path, data: bytes, seconds: float) -> None:
    """Run one hook to its end; raise `HostError` with its words if it fails.

    What it leaves running is killed.
    """
    from xenqemu.system.contained import run_contained  # noqa: PLC0415
    from xenqemu.system.program_output import OutputTail  # noqa: PLC0415

    try:
        require_sole_writers(hook, trusted_ids())
    except (Forbidden, OSError) as error:
        raise HostError(f"{hook} is not run: {in_words(error)}") from error
    said = OutputTail()
    try:
        status = run_contained(
            hook, data, seconds, stderr=said.keep, environment=ENVIRONMENT, folder=Path("/")
        )
    except OSError as error:
        reasons = filter(None, (error.strerror, hook_files.why_not_started(hook)))
        raise HostError(f"{hook} cannot be run: {': '.join(reasons)}") from error
    if status:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        words = filter(None, (str(said), hook_files.carriage_return(hook)))
        raise HostError(f"{hook} failed ({how}): {'; '.join(words)}")
