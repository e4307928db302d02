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

from xenqemu.cli.parser import parser
from xenqemu.cli.terminal import Screen, complain, screens
from xenqemu.errors import PastReturn, Stranded, UsageError, XenqemuError, in_words
from xenqemu.system.signals import hold_interrupts, interrupted_once
from xenqemu.system.standard_streams import open_standard_streams

INTERRUPTED = 130

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
            chosen.run(chosen)
            sys.stdout.flush()
        except ModuleNotFoundError as error:
            name = (error.name or "").partition(".")[0]
            if name not in NEEDED:
                raise
            raise XenqemuError(f"the Python module {name} is missing ({NEEDED[name]})") from error
        finally:
            hold_interrupts()
    except UsageError as error:  # its lines are ours, and the user's words
        complain(*str(error).split("\n"), *getattr(error, "__notes__", []))
        return error.exit_code
    except XenqemuError as error:
        complain(str(error), *getattr(error, "__notes__", []))
        return error.exit_code
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not (error.filename or _has_folder()):
            error.filename = "the current folder"
        complain(in_words(error))
        return XenqemuError.exit_code
    except KeyboardInterrupt as interrupt:
        complain("; ".join(["interrupted", *getattr(interrupt, "__notes__", [])]))
        outcome = interrupt.__cause__
        return outcome.exit_code if isinstance(outcome, (PastReturn, Stranded)) else INTERRUPTED
    except SystemExit as done:  # --help and --version
        return int(done.code or 0)
    return 0


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
