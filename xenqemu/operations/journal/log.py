"""The log of one operation: its file, whose lines replay to a state (`log_state`).

::

    {"verb": "save", "domid": 1, …}                        what the operation is (`About`)
    {"phase": "quiesce"}                                   this phase begins
    {"undo": {"Resume": {…}}}                              step 1, before the act that it undoes
    {"cleanup": {"RemoveDraft": {…}}}                      step 2
    {"done": 1}                                            performed, or no longer needed
    {"commit": {"question": {…}, "meaning": "…", …}}       before the point of no return
    {"committed": true}                                    it was passed
    {"doubt": "…"}                                         in doubt from now on
    {"doubt": ""}                                          it was not passed

Each line is synced before the act it announces, so a last line that is cut off is of an act that
had not begun.  The same lines make the state of a running operation and, replayed, of a killed
one.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import read_at
from xenqemu.formats.typed_json import typed
from xenqemu.operations.journal.log_state import Line, LogState
from xenqemu.shown_text import shown

LIMIT = 1 << 20
"""Bytes of one file at most; an operation writes a few hundred."""

RESERVED = 1 << 16
"""Bytes at the end of a file that only lines take by which an operation ends (`ENDING`)."""

ENDING = ("done", "committed")

MOST_NAME = 4050
"""Bytes of a name that xl can give: xenstore's payload of 4096 with /vm/UUID/name and a NUL."""

MOST_FILE = 16 << 10
"""Bytes of a path, or of the command to another host."""

MOST_UUID = 100

MOST_TITLE = 1000
"""Characters that errors show of a path or command."""

LATEST = 253402300799
"""Unix time at the end of the year 9999; no operation began later."""


@dataclass(frozen=True)
class About:
    """What an operation is; `domid` is 0 if it is not known yet, `since` is in Unix time."""

    verb: str
    domid: int
    name: str
    uuid: str
    file: str
    pid: int = 0
    started: int = 0
    since: float = 0.0

    @property
    def title(self) -> str:
        """What is done to which guest, for errors."""
        named = f"domain {self.domid} ({shown(self.name)})"
        return f"{self.verb} of {named if self.domid else self._shown_file}"

    def __str__(self) -> str:
        """Return all of it in words."""
        return f"{self.title} to {self._shown_file}" if self.domid and self.file else self.title

    @property
    def _shown_file(self) -> str:
        return shown(self.file, MOST_TITLE)

    def require_bounds(self) -> None:
        """Raise `HostError` for what is longer than any name, uuid or path of a guest."""
        bounds = {"name": MOST_NAME, "uuid": MOST_UUID, "file": MOST_FILE}
        for field_name, most in bounds.items():
            size = len(getattr(self, field_name).encode(errors="surrogateescape"))
            if size > most:
                raise HostError(
                    f"cannot keep a journal of the {self.title}: "
                    f"its {field_name} has {size} bytes, expected at most {most}"
                )

    def concerns(self, other: About) -> bool:
        """Return whether both are about the same guest."""
        if self.domid and self.domid == other.domid:
            return True
        named = bool(self.name)  # a domain need not have one
        return (named and self.name == other.name) or self.uuid.lower() == other.uuid.lower()

    @property
    def id(self) -> str:
        """What tells it from all others of this host: its process, and when it began."""
        return f"{self.since:.3f}-{self.pid}"

    @property
    def who(self) -> str:
        """Its process and since when it runs, for people."""
        return f"process {self.pid}, since {time.strftime('%F %T', time.localtime(self.since))}"


@dataclass(frozen=True)
class Found:
    """An operation as its file describes it, in whole lines of `size` bytes."""

    path: Path
    about: About
    lines: tuple[Line, ...]
    size: int
    running: bool

    def state(self) -> LogState:
        """Return what its lines replay to; raise `HostError` for what no operation writes."""
        try:
            return LogState.replayed(self.lines)
        except ValueError as error:
            raise HostError(f"{self.path} is damaged: {error}") from error


@dataclass(frozen=True)
class Damaged:
    """A file that cannot be replayed: `about` says whose, None if not even that can be read."""

    path: Path
    about: About | None
    reason: str

    def __str__(self) -> str:
        """Say whose it is, what is wrong, and what to do."""
        whose = f" (the {self.about})" if self.about else ""
        return (
            f"{self.path}{whose} is damaged: {self.reason}; "
            "see that the guest runs, then remove the file"
        )


@dataclass(eq=False)
class Log:
    """One operation's file, open and locked by us; `close` keeps it only if `unfinished`."""

    path: Path
    descriptor: int
    about: About
    state: LogState
    unfinished: bool = False

    def write(self, line: Line) -> None:
        """Write a line to the disk, then apply it; raise `HostError` as `append` does."""
        self.append(line)
        self.state.take(line)

    def append(self, line: Line) -> None:
        """Add a line and sync it; raise `HostError`, and leave no part of it, where that fails."""
        size = os.fstat(self.descriptor).st_size
        packed = json.dumps(line).encode() + b"\n"
        most = LIMIT if line.keys() & ENDING else LIMIT - RESERVED
        if size + len(packed) > most:
            raise HostError(f"the journal of the {self.about.title} would have over {most} bytes")
        try:
            Sink(io.FileIO(self.descriptor, "ab", closefd=False)).write(packed)
            os.fsync(self.descriptor)
        except OSError as error:
            os.ftruncate(self.descriptor, size)
            folder = self.path.parent
            raise HostError(f"cannot keep a journal in {folder}: {error.strerror}") from error

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the operation to be cancelled."""
        wanted = str(self.about.since).encode()
        try:
            with cancel_file(self.path).open("rb") as file:
                return file.read(len(wanted) + 1) == wanted
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file, and remove it unless something is left to do; repeatable."""
        try:
            cancel_file(self.path).unlink(missing_ok=True)
            progress_path(self.path).unlink(missing_ok=True)
            if not self.unfinished:
                self.path.unlink(missing_ok=True)
        finally:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self.descriptor = -1


def content(path: Path, descriptor: int, *, running: bool) -> Found | Damaged | None:
    """Return what an open file says, None if it was removed.

    That of an unfinished operation must be locked, so that nobody writes to it meanwhile.
    """
    text = read_at(io.FileIO(descriptor, closefd=False), 0, LIMIT + 1)
    if not os.fstat(descriptor).st_nlink:
        return None
    about = None
    *lines, cut_off = text.split(b"\n")
    try:
        about = _about(lines)
        if len(text) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        rest = tuple(map(json.loads, lines[1:]))
        LogState.replayed(rest)
        return Found(path, about, rest, len(text) - len(cut_off), running)
    except (ValueError, RecursionError) as error:
        return Damaged(path, about, shown(str(error)))


def _about(lines: Sequence[bytes]) -> About:
    """Return what the first line says; raise `ValueError`, or `RecursionError` of JSON."""
    about: About = typed(About, json.loads(lines[0]) if lines else None)
    if not 0 <= about.since <= LATEST:
        raise ValueError(f"it began at {about.since}, expected 0 to {LATEST}")
    return about


def cancel_file(path: Path) -> Path:
    """Return the file whose presence cancels the operation of the file `path`."""
    return path.with_suffix(".cancel")


def progress_path(path: Path) -> Path:
    """Return the file that says how far the operation of the file `path` is."""
    return path.with_suffix(".progress")
