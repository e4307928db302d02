"""The files in folders of hooks: which are run, and why each other one is not.

::

    10-name       is run if it is executable, or a link that leads nowhere: then it fails
    10-name.sh    is not, as by run-parts(8); nor is one that is not executable
    .x  x~  …     hidden files and copies that editors and packages made: nobody need hear of them
    README        nor of these, nor of folders

What is run is trusted: nobody but root and our own user can change it, or a folder on the way.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from xenqemu.errors import Forbidden, HostError, in_words
from xenqemu.system.edited_folder import is_beside
from xenqemu.system.regular_file import read_regular
from xenqemu.system.writers import require_sole_writers, trusted_ids

_NAME = re.compile("[A-Za-z0-9_-]+")
_FIRST_LINE = 256
"""Bytes of a script that the kernel looks at (BINPRM_BUF_SIZE)."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def programs(folder: Path) -> list[Path]:
    """Return the hooks of a folder in their order, none if there is no such folder.

    Raises `HostError` if it cannot be read, or is not trusted.
    """
    if not folder.is_symlink() and not folder.exists():
        return []
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise HostError(f"{folder}: the hooks cannot be read: {error.strerror}") from error
    try:
        require_sole_writers(folder, trusted_ids())
    except (Forbidden, OSError) as error:
        raise HostError(f"the hooks in {folder} are not run: {in_words(error)}") from error
    return [path for path in found if _why_not(path) is None]


def passed_over(folder: Path, names: Collection[str], looked_at: Collection[str]) -> Iterator[str]:
    """Yield what is not run of what may have been meant to, each with the reason.

    In `folder` only folders of these `names` have hooks, of which some are `looked_at`.
    """
    for path in _listed(folder):
        if path.name not in names and not _kept_beside(path):
            yield f"{path} is not run: hooks are in the folders that {folder}/README names"
    for name in looked_at:
        for path in _listed(folder / name):
            if why := _why_not(path):
                yield f"{path} is not run: {why}"


def _listed(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing if it cannot be read, which `programs` reports."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _kept_beside(path: Path) -> bool:
    return is_beside(path.name) or path.stem == "README"


def _why_not(path: Path) -> str | None:
    """Return why a file is not run, "" if nobody need hear of it, None if it is run."""
    try:
        mode = path.stat().st_mode
    except OSError:  # a link that leads nowhere
        mode = stat.S_IFREG | 0o111
    if _kept_beside(path) or stat.S_ISDIR(mode):
        return ""
    if not _NAME.fullmatch(path.name):
        return 'its name has more than letters, digits, "_" and "-"'
    if not stat.S_ISREG(mode):
        return "it is no regular file"
    return None if mode & 0o111 else "it is not executable (chmod +x)"


def why_not_started(hook: Path) -> str:
    """Return what of a file the kernel did not start it for, "" if there is nothing to be seen."""
    line = _first_line(hook)
    if not line:
        return ""
    if line.startswith(_BYTE_ORDER_MARK):
        return 'it begins with a byte order mark, not with "#!"'
    if not line.startswith(b"#!"):
        return 'it does not begin with "#!"'
    return carriage_return(hook) or f"its interpreter is {_words(line)[0]}"


def carriage_return(hook: Path) -> str:
    """Return what a script's first line means that ends in CR LF, "" if it does not.

    Editors for Windows end it so; the kernel makes CR a part of the last word.
    """
    line = _first_line(hook)
    if not (line.startswith(b"#!") and line.endswith(b"\r")):
        return ""
    *before, last = _words(line)
    if before:
        return f"its interpreter gets {last!r}, because the line ends in CR LF"
    return f"its interpreter {last!r} is missing, because the line ends in CR LF"


def _first_line(hook: Path) -> bytes:
    """Return how a file begins, nothing if it cannot be read: it may have removed itself."""
    with suppress(OSError):
        return (read_regular(hook, _FIRST_LINE) or b"").partition(b"\n")[0]
    return b""


def _words(line: bytes) -> list[str]:
    """Return the interpreter that a line names, and its argument (execve(2): the rest is one)."""
    return line[2:].strip(b" \t").decode(errors="backslashreplace").split(" ", 1)
