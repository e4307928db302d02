"""The operations that go on on a host, a file each, so that what a killed one began can be ended.

::

    FOLDER/lock           locked while an operation claims its guest
    FOLDER/NUMBER.op      one operation: a JSON object a line, each synced before what it tells of
    FOLDER/NUMBER.cancel  somebody wants the operation of this `since` cancelled
    FOLDER/TOKEN.meet     the streams of one move meet here (module `rendezvous`)

The first line says what the operation is (`About`); what the others mean is the operation's.  The
file is locked as long as its operation goes on, and a lock ends with its process: an unlocked file
is what a process left that was killed, or that could not put all in order.  It is removed by the
operation that ends well.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from xenqemu.errors import HostError
from xenqemu.formats.stream.sink import Sink
from xenqemu.system.flock import locked_within
from xenqemu.system.private_folder import locked, require_own
from xenqemu.system.process import Process

LIMIT = 1 << 20
"""Bytes of one file at most; an operation writes a few hundred."""

LATEST = 253402300799
"""Unix time at the end of the year 9999: what is later is no time that an operation began."""

ADOPT_TIMEOUT = 1.0
"""Seconds to wait for others who only look at an operation that was left."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class About:
    """What an operation is; `domid` is 0 where it has yet to be made, `since` is in Unix time."""

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
        """What is done to which guest, in the words of errors."""
        guest = f"domain {self.domid} ({self.name})" if self.domid else self.file
        return f"{self.verb} of {guest}"

    def __str__(self) -> str:
        """Say all of it in words."""
        return f"{self.title} to {self.file}" if self.domid else self.title

    def concerns(self, other: About) -> bool:
        """Tell whether both are about the same guest."""
        if self.domid and self.domid == other.domid:
            return True
        named = bool(self.name)  # a domain need not have one
        return (named and self.name == other.name) or self.uuid.lower() == other.uuid.lower()

    @property
    def who(self) -> str:
        """Whose it is and since when, for people."""
        return f"process {self.pid}, since {time.strftime('%F %T', time.localtime(self.since))}"


@dataclass(frozen=True)
class Found:
    """An operation as its file has it, in whole lines of `size` bytes; `busy` while it goes on."""

    path: Path
    about: About
    lines: tuple[Line, ...]
    size: int
    busy: bool


class Entry:
    """One operation's file, open and locked by us; it stays at the end only if `unfinished`."""

    def __init__(self, path: Path, descriptor: int, about: About) -> None:
        self._path = path
        self.descriptor = descriptor
        self.about = about
        self.unfinished = False

    def write(self, line: Line) -> None:
        """Add a line and sync it; raise `HostError`, and leave no part of it, where that fails."""
        size = os.fstat(self.descriptor).st_size
        try:
            Sink(io.FileIO(self.descriptor, "ab", closefd=False)).write(_packed(line))
            os.fsync(self.descriptor)
        except OSError as error:
            os.ftruncate(self.descriptor, size)
            folder = self._path.parent
            raise HostError(f"cannot keep a journal in {folder}: {error.strerror}") from error

    @property
    def cancelled(self) -> bool:
        """Whether somebody wants the operation cancelled."""
        file = _cancel_file(self._path)
        return file.exists() and file.read_text() == str(self.about.since)

    def close(self) -> None:
        """Let go of the file, and remove it unless something is left to be done; repeatable."""
        try:
            _cancel_file(self._path).unlink(missing_ok=True)
            if not self.unfinished:
                self._path.unlink(missing_ok=True)
        finally:
            if self.descriptor >= 0:
                os.close(self.descriptor)
            self.descriptor = -1


class Ledger:
    """The operations of one host; `folder` is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, about: About, harmless: Callable[[Found], bool]) -> Entry:
        """Claim a guest and return the new operation's file.

        Raises `HostError` with the other one's name if an operation on the same guest goes on, or
        was left unfinished, unless it is `harmless`, and where nothing can be written; what a
        harmless one left is taken over.
        """
        me = Process.of(os.getpid())
        mine = replace(about, pid=os.getpid(), started=me.started if me else 0, since=time.time())
        try:
            with locked(self._folder):
                self._take_over(mine, harmless)
                return self._new(mine)
        except OSError as error:
            raise HostError(f"cannot keep a journal in {self._folder}: {error.strerror}") from error

    def found(self) -> list[Found]:
        """Return the operations that go on or were left, oldest first."""
        return [found for path in self._paths() if (found := _read(path)) is not None]

    def adopt(self, found: Found) -> Entry:
        """Take over an operation that was left; raise `HostError` if somebody else has."""
        try:
            require_own(self._folder)
            descriptor = os.open(found.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise HostError(f"the {found.about} was ended by somebody else") from error
        try:
            if not locked_within(ADOPT_TIMEOUT, descriptor):
                raise HostError(f"the {found.about} is being seen to by somebody else")
            if _content(found.path, descriptor, busy=found.busy) != found:
                raise HostError(f"the {found.about} was seen to by somebody else meanwhile")
            os.ftruncate(descriptor, found.size)
        except BaseException:
            os.close(descriptor)
            raise
        return Entry(found.path, descriptor, found.about)

    def cancel(self, found: Found) -> None:
        """Ask an operation that goes on to end."""
        _cancel_file(found.path).write_text(str(found.about.since))

    def _take_over(self, mine: About, harmless: Callable[[Found], bool]) -> None:
        """Remove what was left of the same guest, or raise if that must not be."""
        others = [other for other in self.found() if other.about.concerns(mine)]
        for other in others:
            if not harmless(other):
                raise _conflict(other)
        for other in others:
            if not other.busy:
                self.adopt(other).close()

    def _paths(self) -> list[Path]:
        numbered = [path for path in self._folder.glob("*.op") if path.stem.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.stem))

    def _new(self, about: About) -> Entry:
        """Make a file that is never seen without its first line, nor unlocked."""
        number = 1 + max((int(path.stem) for path in self._paths()), default=0)
        path = self._folder / f"{number}.op"
        draft = self._folder / "new"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        entry = Entry(path, os.open(draft, flags, 0o600), about)
        try:
            locked_within(0, entry.descriptor)  # a file that nobody else has
            entry.write(asdict(about))
            draft.rename(path)
        except BaseException:
            entry.close()
            draft.unlink(missing_ok=True)
            raise
        return entry


def _conflict(other: Found) -> HostError:
    if other.busy:
        return HostError(f"the {other.about} goes on ({other.about.who})")
    guest = other.about.name or other.about.domid
    return HostError(
        f"the {other.about} was left unfinished ({other.about.who}): xenqemu recover {guest}"
    )


def _read(path: Path) -> Found | None:
    """Return what a file says; None if its operation has ended meanwhile."""
    try:
        with path.open("rb") as file:
            busy = not locked_within(0, file.fileno(), fcntl.LOCK_SH)
            return _content(path, file.fileno(), busy=busy)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HostError(f"cannot read {path}: {error.strerror}") from error


def _content(path: Path, descriptor: int, *, busy: bool) -> Found | None:
    """Return what an open file says, None if it has lost its name.

    Of one that nobody works on, it must be locked: what is read is then the last that was written.
    A last line that is cut off, or is none, was being written when its process was killed: what it
    tells of had not begun.
    """
    text = os.pread(descriptor, LIMIT + 1, 0)
    if not os.fstat(descriptor).st_nlink:
        return None
    *lines, cut_off = text.split(b"\n")
    try:
        if len(text) > LIMIT:
            raise ValueError(f"more than {LIMIT} bytes")
        first, *rest = map(json.loads, lines)
        if {name: type(value) for name, value in first.items()} != get_type_hints(About):
            raise ValueError("its first line does not say what the operation is")
        if not 0 <= first["since"] <= LATEST:
            raise ValueError(f"it began at {first['since']}, expected 0 to {LATEST}")
        return Found(path, About(**first), tuple(rest), len(text) - len(cut_off), busy)
    except (ValueError, AttributeError, RecursionError) as error:
        raise HostError(f"{path} is damaged: {error}") from error


def _packed(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _cancel_file(path: Path) -> Path:
    return path.with_suffix(".cancel")
