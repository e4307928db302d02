"""Who may write to a file, or put another one in its place: its owners, and those of its folders.

A file is as safe as each folder and symbolic link on the way to it, so that is walked as the kernel
walks it (path_resolution(7)), from the root folder on.  A sticky folder on the way (/tmp) may be
written by all: nobody renames or removes there what is another user's.  ACLs show in the mode, as
what the group may do.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from xenqemu.errors import Forbidden, UsageError

MAX_LINKS = 40
"""Symbolic links on the way to a file at most, as in Linux (MAXSYMLINKS)."""


def trusted_ids(names: Collection[str] = ()) -> frozenset[int]:
    """Return the ids of root, of our own user, and of the users of these names.

    Raises `UsageError` for a name that no user has.
    """
    try:
        return frozenset({0, os.geteuid(), *(pwd.getpwnam(name).pw_uid for name in names)})
    except KeyError as error:
        raise UsageError(f"there is no user {error.args[0].rpartition(' ')[2]}") from error


def require_sole_writers(path: Path, users: Collection[int], *, sticky: bool = False) -> None:
    """Raise `Forbidden` if others than `users` may write to `path`, or replace it on the way.

    With `sticky`, others may add files to `path` itself, a folder, if it is a sticky one.  The
    error names the place and what is wrong with it.  Raises `OSError` where there is no such path.
    """
    for place, status, on_the_way in _places(path):
        require_owned(place, status, users, sticky=sticky or on_the_way)


def require_owned(
    place: Path, status: os.stat_result, users: Collection[int], *, sticky: bool = False
) -> None:
    """Raise `Forbidden` if others than `users` own what has this status, or may write to it.

    A link has no mode of its own; a `sticky` folder may be as good as one that is ours alone.
    """
    mode = status.st_mode
    if status.st_uid not in users:
        raise Forbidden(f"{place} is owned by user {status.st_uid}, who could change it")
    if stat.S_ISLNK(mode) or (sticky and stat.S_ISDIR(mode) and mode & stat.S_ISVTX):
        return
    bits = {"g": mode & stat.S_IWGRP, "o": mode & stat.S_IWOTH}
    if others := "".join(who for who, may in bits.items() if may):
        raise Forbidden(f"others may write to {place} (chmod {others}-w)")


def _places(path: Path) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Yield each folder and symbolic link on the way to a path, and what it names in the end.

    With each comes its status, and whether it is only on the way.
    """
    place, rest = Path("/"), [*reversed(path.absolute().parts[1:])]
    yield place, place.lstat(), bool(rest)
    links = 0
    while rest:
        name = rest.pop()
        if name == "..":
            place = place.parent
            continue
        status = (place / name).lstat()
        yield place / name, status, bool(rest)
        if not stat.S_ISLNK(status.st_mode):
            place /= name
            continue
        if place.is_relative_to("/proc"):  # the kernel's own, to what may have no path here
            place /= name
            yield place, place.stat(), bool(rest)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = (place / name).readlink()
        if target.is_absolute():
            place = Path("/")
        rest += [part for part in reversed(target.parts) if part != "/"]
