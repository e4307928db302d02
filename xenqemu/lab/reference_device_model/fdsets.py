"""Sets of descriptors that clients hand over; ``/dev/fdset/N`` opens one (monitor/fds.c)."""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, field

PREFIX = "/dev/fdset/"


@dataclass
class FdSet:
    """The descriptors of a set, each with the text that came with it, and those removed."""

    fds: dict[int, str | None] = field(default_factory=dict)
    removed: set[int] = field(default_factory=set)


class FdSets:
    """All sets, by number."""

    def __init__(self) -> None:
        self.sets: dict[int, FdSet] = {}

    def add(self, fd: int, number: int | None, opaque: str | None) -> int:
        """Add `fd` to a set, by default a new one of the lowest free number; return the number."""
        if number is None:
            number = next(free for free in range(len(self.sets) + 1) if free not in self.sets)
        self.sets.setdefault(number, FdSet()).fds[fd] = opaque
        return number

    def remove(self, number: int, fd: int | None, *, running: bool) -> None:
        """Remove a descriptor or a whole set; raise KeyError if there is none.

        A machine that does not run keeps them listed, and keeps them after `cont` too: they are
        looked at again only when a client leaves.
        """
        chosen = self.sets[number]
        chosen.removed |= set(chosen.fds) if fd is None else {self._member(chosen, fd)}
        if running:
            self._drop(number, chosen.removed)

    def client_left(self, *, running: bool) -> None:
        """Drop every set, since no client is left to use it; not while the machine is stopped."""
        if running:
            self.close()

    def close(self) -> None:
        """Drop every set."""
        for number, each in list(self.sets.items()):
            self._drop(number, set(each.fds))

    def open(self, filename: str, flags: int) -> int:
        """Return a duplicate of the member that has exactly the access mode of `flags`.

        The offset is the client's own: O_TRUNC empties the file, nothing rewinds it.  Raises
        `OSError`: EINVAL for a bad number or a pipe, ENOENT for no such set, EACCES for no such
        mode.
        """
        suffix = filename.removeprefix(PREFIX)
        if not (suffix.isascii() and suffix.isdigit()):
            raise _failure(errno.EINVAL)
        if int(suffix) not in self.sets:
            raise _failure(errno.ENOENT)
        for member in self.sets[int(suffix)].fds:
            if fcntl.fcntl(member, fcntl.F_GETFL) & os.O_ACCMODE == flags & os.O_ACCMODE:
                return _truncated(os.dup(member), flags)
        raise _failure(errno.EACCES)

    def _drop(self, number: int, fds: set[int]) -> None:
        chosen = self.sets[number]
        for fd in fds:
            del chosen.fds[fd]
            os.close(fd)
        chosen.removed -= fds
        if not chosen.fds:
            del self.sets[number]

    @staticmethod
    def _member(chosen: FdSet, fd: int) -> int:
        if fd not in chosen.fds:
            raise KeyError(fd)
        return fd


def _truncated(fd: int, flags: int) -> int:
    try:
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except OSError:
        os.close(fd)
        raise
    return fd


def _failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
