"""A terminal on a guest's serial port."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import HostError

LEAVE = b"\x1d"
"""Ctrl-], as in xl console."""

CHUNK = 4096


def attach(port: Path) -> None:
    """Join our terminal and `port` until Ctrl-], the end of our input, or the guest's end.

    Raises `HostError` if the port is not there.
    """
    try:
        line = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot open {port}: {error.strerror}") from error
    try:
        with _raw(sys.stdin.fileno()):  # QEMU has made its own pty raw
            _join(line)
    finally:
        os.close(line)


def _join(line: int) -> None:
    ours = sys.stdin.fileno()
    while True:
        for ready in select.select([line, ours], [], [])[0]:
            data = _read(ready)
            if ready == line:
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            else:
                typed, leave, _ = data.partition(LEAVE)
                os.write(line, typed)
                if leave or not data:
                    return


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK)
    except OSError:  # EIO: the other side of a pty is gone
        return b""


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Pass keys and lines through as they are; nothing for what is no terminal."""
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # it may have hung up
            termios.tcsetattr(fd, termios.TCSADRAIN, before)
