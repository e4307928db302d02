"""The command line: runs one command and returns its exit code.

Exit codes are those of the tree in `xenqemu.errors`; 130 is Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Sequence

from xenqemu.cli.parser import parser
from xenqemu.cli.terminal import complain
from xenqemu.errors import UsageError, XenqemuError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    if sys.stdout is None:  # we were started without one
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  it stays open as long as we run
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may be in any script, a terminal in one
        sys.stdout.reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    try:
        return _run(arguments)
    finally:
        _flush_output()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        chosen = parser().parse_args(arguments)
        chosen.run(chosen)
        sys.stdout.flush()
    except UsageError as error:  # its lines are ours, and the user's words
        complain(*str(error).split("\n"), *getattr(error, "__notes__", []))
        return error.exit_code
    except XenqemuError as error:
        complain(str(error), *getattr(error, "__notes__", []))
        return error.exit_code
    except BrokenPipeError:  # the reader of our output is gone
        return XenqemuError.exit_code
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return XenqemuError.exit_code
    except KeyboardInterrupt as interrupt:
        complain("; ".join(["interrupted", *getattr(interrupt, "__notes__", [])]))
        return INTERRUPTED
    return 0


def _flush_output() -> None:
    """Write the rest of our output, or drop it: Python would print an error and exit with 120."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
