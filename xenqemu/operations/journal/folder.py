"""The folder of all journals of a host, so that what a killed operation left can be recovered.

::

    FOLDER/lock           locked while an operation claims its guest
    FOLDER/NUMBER.op      the log of one operation; NUMBER has up to nine digits
    FOLDER/NUMBER.cancel  a request to cancel the operation of this `since`
    FOLDER/NUMBER.progress    how far the operation of this `since` is
    FOLDER/TOKEN.meet     the rendezvous of the streams of one migration

A log is locked as long as its operation is running, and a lock ends with its process: an unlocked
one was left by a process that was killed, or that could not roll back.  An operation that ends well
removes its log.

A file that cannot be replayed concerns the guest that its first line names, and nobody else.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from xenqemu.errors import HostError
from xenqemu.operations.journal.log import (
    About,
    Damaged,
    Found,
    Log,
    cancel_file,
    content,
)
from xenqemu.operations.journal.log_state import LogState
from xenqemu.system.flock import locked_within
from xenqemu.system.private_folder import locked, require_own
from xenqemu.system.process import Process

ADOPT_TIMEOUT = 1.0
"""Seconds to wait for others that only look at an unfinished operation."""

_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_HIGHEST_COUNTED = 99_999_999
"""We number on from here at most: a file of a higher number is none of ours, though it is read."""


class Journals:
    """The operations of one host; `folder` is made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, about: About, harmless: Callable[[Found], bool]) -> Log:
        """Claim a guest and return the new operation's log.

        Raises `HostError`, which names the other one, if an operation on the same guest is running
        or was left unfinished, unless it is `harmless`, or if its file is damaged; and where
        nothing can be written.  The log of a harmless one is removed, but for one that has drafts
        to remove.
        """
        about.require_bounds()
        me = Process.of(os.getpid())
        mine = replace(about, pid=os.getpid(), started=me.started if me else 0, since=time.time())
        try:
            with locked(self._folder):
                self._take_over(mine, harmless)
                return self._new(mine)
        except OSError as error:
            raise HostError(f"cannot keep a journal in {self._folder}: {error.strerror}") from error

    def found(self) -> list[Found]:
        """Return the operations that are running or unfinished, oldest first."""
        return [each for each in self._all() if isinstance(each, Found)]

    def damaged(self) -> list[Damaged]:
        """Return the files that cannot be replayed."""
        return [each for each in self._all() if isinstance(each, Damaged)]

    def conflicts(self, about: About, harmless: Callable[[Found], bool]) -> Iterator[HostError]:
        """Return why the operation `about` may not begin: others on its guest, damaged files."""
        return _conflicts(self._on_guest_of(about), harmless)

    def adopt(self, found: Found) -> Log:
        """Take over an unfinished operation; raise `HostError` if another process has."""
        state = found.state()
        try:
            require_own(self._folder)
            descriptor = os.open(found.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise HostError(f"the {found.about} was recovered by another process") from error
        try:
            if not locked_within(ADOPT_TIMEOUT, descriptor):
                raise HostError(f"the {found.about} is being recovered by another process")
            if content(found.path, descriptor, running=found.running) != found:
                raise HostError(f"the {found.about} was changed by another process meanwhile")
            os.ftruncate(descriptor, found.size)
        except BaseException:
            os.close(descriptor)
            raise
        return Log(found.path, descriptor, found.about, state)

    def cancel(self, found: Found) -> None:
        """Ask a running operation to end."""
        cancel_file(found.path).write_text(str(found.about.since))

    def _take_over(self, mine: About, harmless: Callable[[Found], bool]) -> None:
        """Remove the logs of harmless operations on the same guest; raise for any other."""
        every = self._on_guest_of(mine)
        for conflict in _conflicts(every, harmless):
            raise conflict
        for other in every:
            if isinstance(other, Found) and not (other.running or other.state().only_removes):
                self.adopt(other).close()

    def _on_guest_of(self, about: About) -> list[Found | Damaged]:
        return [each for each in self._all() if each.about and each.about.concerns(about)]

    def _all(self) -> list[Found | Damaged]:
        """Return what all files say, but for those of operations that have ended meanwhile."""
        return [each for path in self._paths() if (each := _look(path)) is not None]

    def _paths(self) -> list[Path]:
        numbered = [path for path in self._folder.glob("*.op") if _NUMBER.fullmatch(path.stem)]
        return sorted(numbered, key=lambda path: int(path.stem))

    def _new(self, about: About) -> Log:
        """Make a file that others only ever see locked and with its first line."""
        numbers = (int(path.stem) for path in self._paths())
        number = 1 + max((each for each in numbers if each <= _HIGHEST_COUNTED), default=0)
        path = self._folder / f"{number}.op"
        draft = self._folder / "new"
        draft.unlink(missing_ok=True)  # of a process that was killed
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        log = Log(path, os.open(draft, flags, 0o600), about, LogState())
        try:
            locked_within(0, log.descriptor)  # a file that nobody else has
            log.append(asdict(about))
            draft.rename(path)
        except BaseException:
            log.close()
            draft.unlink(missing_ok=True)
            raise
        return log


def _conflicts(
    every: Iterable[Found | Damaged], harmless: Callable[[Found], bool]
) -> Iterator[HostError]:
    """Yield what of the operations on a guest keeps a new one from beginning."""
    yield from (HostError(str(each)) for each in every if isinstance(each, Damaged))
    for each in every:
        if isinstance(each, Found) and not harmless(each):
            yield _conflict(each)


def _conflict(other: Found) -> HostError:
    if other.running:
        return HostError(f"the {other.about} is running ({other.about.who})")
    guest = other.about.name or other.about.domid
    return HostError(
        f"the {other.about} was left unfinished ({other.about.who}): xenqemu recover {guest}"
    )


def _look(path: Path) -> Found | Damaged | None:
    """Return what a file says; None if its operation has ended meanwhile."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Damaged(path, None, os.strerror(error.errno or 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Damaged(path, None, "it is no regular file")
        running = not locked_within(0, descriptor, fcntl.LOCK_SH)
        return content(path, descriptor, running=running)
    except OSError as error:
        return Damaged(path, None, os.strerror(error.errno or 0))
    finally:
        os.close(descriptor)
