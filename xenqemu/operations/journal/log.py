"""The log of one operation: its file, and the state that its lines replay to.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenqemu.errors import HostError
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.typed_json import typed
from xenqemu.operations.journal.steps import Commit, KeepDisks, RemoveDraft, Step, WithdrawSuspend

Line = Mapping[str, Any]

LIMIT = 1 << 20
"""Bytes of one file at most; an operation writes a few hundred."""

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
        guest = f"domain {self.domid} ({self.name})" if self.domid else self.file
        return f"{self.verb} of {guest}"

    def __str__(self) -> str:
        """Return all of it in words."""
        return f"{self.title} to {self.file}" if self.domid and self.file else self.title

    def concerns(self, other: About) -> bool:
        """Return whether both are about the same guest."""
        if self.domid and self.domid == other.domid:
            return True
        named = bool(self.name)  # a domain need not have one
        return (named and self.name == other.name) or self.uuid.lower() == other.uuid.lower()

    @property
    def who(self) -> str:
        """Its process and since when it runs, for people."""
        return f"process {self.pid}, since {time.strftime('%F %T', time.localtime(self.since))}"


@dataclass
class LogState:
    """How far an operation has come, and the steps that are left, by their numbers.

    `undos` are performed before the commit, `following` after it, `cleanups` in both cases.
    """

    phase: str = ""
    undos: dict[int, Step] = field(default_factory=dict)
    cleanups: dict[int, Step] = field(default_factory=dict)
    following: dict[int, Step] = field(default_factory=dict)
    registered: int = 0
    touched: bool = False
    commit: Commit | None = None
    committed: bool = False
    doubt: str = ""

    def take(self, line: Line) -> None:
        """Apply one line; raise `ValueError` or `TypeError` for what no operation writes."""
        match line:
            case {"phase": str(phase)}:
                self.phase = phase
            case {"undo": step}:
                self._register(self.undos, typed(Step, step))
                self.touched = True
            case {"cleanup": step}:
                self._register(self.cleanups, typed(Step, step))
            case {"done": int(number)} if 0 < number <= self.registered:
                for steps in (self.undos, self.cleanups, self.following):
                    steps.pop(number, None)  # twice, where Ctrl-C came right after the first
            case {"commit": commit}:
                self.commit = typed(Commit, commit)
            case {"committed": True}:
                self.committed = True
                self.doubt = ""
                self.undos.clear()
                for step in self.commit.then if self.commit else ():
                    self._register(self.following, step)
            case {"doubt": str(doubt)}:
                self.doubt = doubt
            case _:
                raise ValueError(f"{line!r} is no line of a log")

    @property
    def steps(self) -> Mapping[int, Step]:
        """All that are left."""
        return self.undos | self.cleanups | self.following

    @property
    def meaning(self) -> str:
        """What is the guest, once the point of no return was passed."""
        return self.commit.meaning if self.commit else ""

    @property
    def undone(self) -> bool:
        """Whether nothing is left to undo, and the operation neither committed nor is in doubt."""
        return not (self.committed or self.doubt or self.undos)

    @property
    def only_withdraws(self) -> bool:
        """Whether nothing is left but to withdraw a suspend request."""
        late = [
            isinstance(each, WithdrawSuspend) and not each.withdrawn for each in self.undos.values()
        ]
        return bool(late) and all(late)

    @property
    def only_removes(self) -> bool:
        """Whether nothing is left but to remove drafts: the guest is as it was, or saved."""
        left = self.steps.values()
        return not self.doubt and bool(left) and all(isinstance(each, RemoveDraft) for each in left)

    @property
    def images(self) -> list[str]:
        """The images whose leases this host keeps if the guest stays."""
        steps = [step for step in self.undos.values() if isinstance(step, KeepDisks)]
        return [path for step in steps for path in step.images]

    def _register(self, steps: dict[int, Step], step: Step) -> None:
        self.registered += 1
        steps[self.registered] = step


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
        state = LogState()
        for number, line in enumerate(self.lines, 2):
            try:
                state.take(line)
            except (TypeError, ValueError) as error:
                raise HostError(f"{self.path} is damaged: line {number}: {error}") from error
        return state


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
        try:
            packed = json.dumps(line).encode() + b"\n"
            Sink(io.FileIO(self.descriptor, "ab", closefd=False)).write(packed)
            os.fsync(self.descriptor)
        except OSError as error:
            os.ftruncate(self.descriptor, size)
            folder = self.path.parent
            raise HostError(f"cannot keep a journal in {folder}: {error.strerror}") from error

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the operation to be cancelled."""
        file = cancel_file(self.path)
        return file.exists() and file.read_text() == str(self.about.since)

    def close(self) -> None:
        """Close the file, and remove it unless something is left to do; repeatable."""
        try:
            cancel_file(self.path).unlink(missing_ok=True)
            if not self.unfinished:
                self.path.unlink(missing_ok=True)
        finally:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self.descriptor = -1


def content(path: Path, descriptor: int, *, running: bool) -> Found | None:
    """Return what an open file says, None if it was removed; `HostError` if it is damaged.

    That of an unfinished operation must be locked, so that nobody writes to it meanwhile.
    """
    text = os.pread(descriptor, LIMIT + 1, 0)
    if not os.fstat(descriptor).st_nlink:
        return None
    *lines, cut_off = text.split(b"\n")
    try:
        if len(text) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        first, *rest = map(json.loads, lines)
        about: About = typed(About, first)
        if not 0 <= about.since <= LATEST:
            raise ValueError(f"it began at {about.since}, expected 0 to {LATEST}")
        return Found(path, about, tuple(rest), len(text) - len(cut_off), running)
    except (ValueError, RecursionError) as error:
        raise HostError(f"{path} is damaged: {error}") from error


def cancel_file(path: Path) -> Path:
    """Return the file whose presence cancels the operation of the file `path`."""
    return path.with_suffix(".cancel")
