"""The command line: runs one command and returns its exit code.

Exit codes are those of the tree in `xenqemu.errors`; 130 is Ctrl-C or SIGTERM before the point of
no return.  What cannot be printed changes the exit code of those commands alone that only print.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from errno import EPIPE
from pathlib import Path

from xenqemu.cli.failure import tell_failure
from xenqemu.cli.parser import parser
from xenqemu.cli.terminal import Screen, choose, complain, screens
from xenqemu.errors import XenqemuError
from xenqemu.system.signals import hold_interrupts, interrupted_once
from xenqemu.system.standard_streams import open_standard_streams

NEEDED = {
    "pyxs": "Debian: python3-pyxs",
    "tenacity": "Debian: python3-tenacity",
    "qemu": "PyPI: qemu.qmp",
}
"""The modules of others that we need, and where they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code; without `arguments`, those of this process."""
    open_standard_streams()
    with interrupted_once(exits=arguments is None), screens() as (out, _err):
        chosen = argparse.Namespace(only_prints=True)  # as --help does
        code = _run(chosen, arguments)
        out.flush()
        return code or _printed(out, only_prints=chosen.only_prints)


def _run(chosen: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    try:
        try:
            parser().parse_args(arguments, chosen)
            choose(quiet=chosen.quiet, stamped=chosen.timestamps)
            code: int = chosen.run(chosen) or 0
            sys.stdout.flush()
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name not in NEEDED:
                raise
            raise XenqemuError(f"the Python module {name} is missing ({NEEDED[name]})") from error
        finally:
            hold_interrupts()
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    except (XenqemuError, OSError, KeyboardInterrupt) as error:
        if isinstance(error, FileNotFoundError) and not (error.filename or _has_folder()):
            error.filename = "the current folder"
        given = sys.argv[1:] if arguments is None else arguments
        as_json = getattr(chosen, "json", False) or "--json" in given  # the words may make no sense
        return tell_failure(error, as_json=as_json)
    return code


def _has_folder() -> bool:
    """Return whether the folder that we were called in is still there."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _printed(out: Screen, *, only_prints: bool) -> int:
    """Return the exit code of a command that has done its work, by what became of its output."""
    if out.trouble is None:
        return 0
    if not (only_prints and out.trouble.errno == EPIPE):  # its reader has seen enough
        rest = "" if only_prints else "; the command is done, its answer could not be printed"
        complain(f"{out.name}: {out.trouble.strerror}{rest}")
    return XenqemuError.exit_code if only_prints else 0
