"""Commands that do the same to each of several files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from xenqemu.cli import terminal
from xenqemu.cli.failure import error_fields, tell_failure
from xenqemu.errors import XenqemuError


def for_each_file(
    files: Iterable[Path],
    act: Callable[[Path], None],
    *,
    as_json: bool,
    about: Callable[[Exception], dict[str, object]],
) -> int:
    """Do `act` to each file, tell of those where it fails, and return the first's exit code.

    Programs get the error as a line of JSON with the file and what is known `about` the error.
    """
    code = 0
    for file in files:
        try:
            act(file)
        except (XenqemuError, OSError) as error:
            more = about(error)
            failed = tell_failure(error)
            if as_json:
                fields = {"file": str(file), **more, "error": error_fields(error)}
                terminal.as_json(fields, indent=None)
            code = code or failed
    return code
