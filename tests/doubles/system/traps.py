"""What others put in a folder where root works: nothing of it may be followed or waited for."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OTHER = 4711
"""A user who is not root."""

Trap = Callable[[Path, Path], object]
"""Puts something at the first path, which may lead to the second."""


def _socket(path: Path, _target: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        with contextlib.chdir(path.parent):  # whose path may be longer than an address
            listening.bind(path.name)


def _of_another(path: Path, _target: Path) -> None:
    path.write_text('{"owner": null}')
    os.chown(path, OTHER, -1)


LINKS: dict[str, Trap] = {
    "a link to what is not there": lambda path, target: path.symlink_to(target),
    "a link to a file": lambda path, target: (target.write_text("secret"), path.symlink_to(target)),
    "a link to a FIFO": lambda path, target: (os.mkfifo(target), path.symlink_to(target)),
    "a link to itself": lambda path, _target: path.symlink_to(path.name),
}
TRAPS: dict[str, Trap] = LINKS | {
    "a FIFO": lambda path, _target: os.mkfifo(path),
    "a socket": _socket,
    "a device": lambda path, _target: os.mknod(path, 0o20600, os.makedev(1, 3)),
    "another's file": _of_another,
}


@contextmanager
def prompt() -> Iterator[None]:
    """Fail if the block takes long: nothing in a folder may have us wait."""

    def late(_number: int, _frame: object) -> None:
        pytest.fail("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(10)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def seen(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return what is in a folder."""
    found = {path.name: path.lstat() for path in folder.iterdir()}
    return {name: (each.st_ino, each.st_mode, each.st_size) for name, each in found.items()}
