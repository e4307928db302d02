"""Programs of the administrator's own, run before and after a domain is saved or brought back.

::

    FOLDER/pre-save.d/        before anything is touched; each may forbid it
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
import select
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from xenqemu.errors import Forbidden, HostError, HostTimeout
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import memory_file
from xenqemu.system.process import END_TIMEOUT, last_words
from xenqemu.system.signals import undisturbed

Moment = Literal["pre", "post", "failed"]
Act = Literal["save", "restore", "migrate"]

WORDS = 8192
"""Bytes of a hook's last words that are looked at."""

PIPE = 1 << 16
"""Bytes that a pipe holds (pipe(7))."""

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
}
"""All that a hook finds in its environment: what it needs to know is on its standard input."""


@dataclass(frozen=True)
class Hooks:
    """The hooks in the folders below `folder`; each has `deadline` seconds."""

    folder: Path = Path("/etc/xenqemu/hooks.d")
    deadline: float = 60.0

    def run(self, moment: Moment, act: Act, about: Mapping[str, object]) -> tuple[str, ...]:
        """Run all hooks of one moment; each is told `about`, with "moment" and "act" added.

        Raises `Forbidden` if a hook of "pre" says no by its exit status, with what it wrote to
        its standard error, and if it cannot be run, is not to be trusted, or has to be killed: it
        did not say yes.  At other times it is too late for that: all are run, and what went wrong
        is returned, in words.
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
        raise HostError(f"{path} is not run: everyone may write it (chmod o-w)")


def _run(hook: Path, data: bytes, seconds: float) -> None:
    """Run one hook to its end; raise `HostError` with its words if it fails."""
    _require_trusted(hook)
    with memory_file(data) as given:  # a hook need not read it, and it may be long
        said, status = _finished(hook, given, Deadline.after(seconds))
    if said is None:
        raise HostTimeout(f"{hook} was killed: it was not done within {seconds:g} s")
    if status:
        how = f"exit status {status}" if status > 0 else f"signal {-status}"
        raise HostError(f"{hook} failed ({how}): {last_words(said)}")


def _finished(hook: Path, given: int, deadline: Deadline) -> tuple[bytes | None, int]:
    """Return a hook's last words, None if it had to be killed, and its status."""
    with ExitStack() as ending:
        with undisturbed():  # Ctrl-C must not come between its start and our knowing of it
            process = _started(hook, given)
            pipe = process.stderr
            assert pipe is not None
            ending.enter_context(closing(pipe))
            ending.callback(_end, process)
        said = _heard(process.pid, pipe.fileno(), deadline)
    return said, process.returncode


def _started(hook: Path, given: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [hook],
            bufsize=0,
            cwd="/",
            env=ENVIRONMENT,
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"{hook} cannot be run: {error.strerror}") from error


def _heard(pid: int, pipe: int, deadline: Deadline) -> bytes | None:
    """Return the last words of a process once it has ended, None if it does not in time.

    What it leaves running may hold the pipe open, and is not waited for.
    """
    said = b""
    handle = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    poll.register(pipe, select.POLLIN)
    try:
        while not deadline.passed:
            ready = [descriptor for descriptor, _ in poll.poll(deadline.left * 1000)]
            if pipe in ready:
                piece = os.read(pipe, PIPE)
                said = (said + piece)[-WORDS:]
                if not piece:
                    poll.unregister(pipe)
            if handle in ready:
                return said
    finally:
        os.close(handle)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a hook that has not ended, with its process group, and take its status."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # nobody else has the id before it is waited for
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        message = f"process {process.pid} is there {END_TIMEOUT:g} s after SIGKILL"
        raise HostTimeout(message) from error
