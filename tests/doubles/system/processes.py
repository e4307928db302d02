"""Processes beside the one under test: ended for certain, or under the words of another program."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.system.process import Process

NOBODY = 65534
"""A user who is not root."""


@contextmanager
def running(*command: str, name: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A child of ours, ended for sure after the block.

    `Popen` returns when execve(2) closes its descriptors; only later in that call has the process
    its words, which whoever looks between them does not see.
    """
    child = subprocess.Popen(command, executable=name, stdout=subprocess.PIPE)
    words = Path(f"/proc/{child.pid}/cmdline")
    try:
        while not (words.read_bytes() or has_ended(child.pid)):
            time.sleep(0.001)
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def has_ended(pid: int) -> bool:
    """Return whether a child is gone or a zombie."""
    return Process.of(pid) is None


def wait_ended(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def posing(*words, folder, user=None):
    """Run what is called, and executes a file called, as the first of `words`; it does nothing.

    It is a shell: its script is the one named words[1].  `folder` is where both are.
    """
    program = folder / Path(words[0]).name
    shutil.copy("/bin/sh", program)
    (folder / words[1]).write_text("echo here\nread nothing\n")
    child = subprocess.Popen(
        words,
        executable=program,
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        user=user,
    )
    try:
        assert child.stdout.readline() == b"here\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
