"""Paths that lead where they do by the will of root and of our own user alone.

Whoever may write to a folder on the way to a file, or owns it, decides what the file is.  So the
way is walked as the kernel walks it (path_resolution(7)), from the root folder on: each folder and
each symbolic link is looked at, and what the link leads through too.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from xenqemu.errors import HostError

MAX_LINKS = 40
"""Symbolic links on one way at most, as for the kernel."""


def require_trusted(path: Path) -> None:
    """Raise `HostError` if somebody else could have put there what `path` leads to.

    The error names the place and says what is wrong with it, also if the path leads nowhere.
    """
    at, links = Path("/"), 0
    rest = [*path.absolute().parts[:0:-1]]
    _require_ours(at, at.lstat(), on_the_way=bool(rest))
    while rest:
        name = rest.pop()
        here = at.parent if name == ".." else at / name  # `at` has no links in it
        try:
            status = here.lstat()
            _require_ours(here, status, on_the_way=bool(rest))
            if not stat.S_ISLNK(status.st_mode):
                at = here
                continue
            target = here.readlink()
        except OSError as error:
            raise HostError(f"{here}: {error.strerror}") from error
        links += 1
        if links > MAX_LINKS:
            raise HostError(f"{path}: {os.strerror(errno.ELOOP)}")
        if target.is_absolute():
            at = Path("/")
        rest += [part for part in reversed(target.parts) if part != target.anchor]


def _require_ours(path: Path, status: os.stat_result, *, on_the_way: bool) -> None:
    """Raise `HostError` if somebody else owns it or may write to it.

    A link has no mode of its own.  In a sticky folder, as /tmp, nobody can replace what others own,
    so one that is only `on_the_way` is as good as what comes next.
    """
    if status.st_uid not in {0, os.geteuid()}:
        raise HostError(f"{path}: it is owned by user {status.st_uid}, not by root")
    if stat.S_ISLNK(status.st_mode) or (on_the_way and status.st_mode & stat.S_ISVTX):
        return
    if status.st_mode & stat.S_IWOTH:
        raise HostError(f"{path}: everyone may write to it (chmod o-w)")
    if status.st_mode & stat.S_IWGRP:
        raise HostError(f"{path}: its group may write to it (chmod g-w)")
