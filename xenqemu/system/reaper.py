"""A program of its own: runs one program and, once that is to end, ends all that it has started.

::

    python3 -I -S reaper.py REPORT INPUT PROGRAM

    standard input    a pipe; PROGRAM is to end when it is closed, also by the death of who holds it
    INPUT             the descriptor that is PROGRAM's standard input
    REPORT            the descriptor of a file that says at the end how it went:
                      "status 3", "status -9" for a signal, "errno 2" if it could not be started

PROGRAM has a session of its own.  What it starts may leave that session and its process group, by
setsid(2) or fork(2), but not its descent: this process is a "child subreaper" (prctl(2)), so that
whatever loses its parent becomes a child of it.  It kills its children until there are none.  A
control group would do the same, and needs root and a cgroupfs that it may write to, which labs and
containers do not have; and the caller cannot be the subreaper itself, since it could not tell what
one program left from what another did, or from a guest's QEMU.

It is run without the package, and imports nothing of it: that would take longer than most programs
that it runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator

PR_SET_CHILD_SUBREAPER = 36
"""Of linux/prctl.h."""

PAUSE = 0.01
"""Seconds between looks for children that are not dead yet."""


def run(program: str, given: int) -> int:
    """Run a program until it ends or is to end; return its exit status, negative for a signal.

    Raises `OSError` if it cannot be started.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.posix_spawn(
        program,
        [program],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, given, 0)],
        setsid=True,
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
    )
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    poll.register(0, select.POLLHUP)
    poll.poll()
    return _end_all(pid)


def _end_all(pid: int) -> int:
    """Kill all children, and those that become children thereby; return the status of one."""
    status = 0
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            found, how = os.waitpid(-1, os.WNOHANG)
            if found == pid:
                status = os.waitstatus_to_exitcode(how)
            if not found:
                for child in _children():
                    with contextlib.suppress(PermissionError):  # it is another user's by now
                        os.kill(child, signal.SIGKILL)  # nobody else has its id: we reap it
                time.sleep(PAUSE)
    return status


def _children() -> Iterator[int]:
    """Yield the ids of our children (proc(5), field 4 of stat)."""
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208  pathlib loads slowly
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{name}/stat", "rb") as stat:
                parent = stat.read().rpartition(b")")[2].split()[1]
            if int(parent) == os.getpid():
                yield int(name)


def main(report: str, given: str, program: str) -> None:
    """Run the program, which inherits neither descriptor, and write the report."""
    for descriptor in (int(report), int(given)):
        os.set_inheritable(descriptor, False)
    try:
        text = f"status {run(program, int(given))}"
    except OSError as error:
        text = f"errno {error.errno}"
    os.write(int(report), text.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
