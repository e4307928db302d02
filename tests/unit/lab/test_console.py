"""Our terminal joined to a guest's port: both are ptys here."""

import os
import pty
import select
import termios
import threading
import tty
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from xenqemu.errors import HostError
from xenqemu.lab import console
from xenqemu.lab.console import CHUNK, LEAVE, attach

TIMEOUT = 20.0


class Descriptor(NamedTuple):
    """All that is asked of a standard stream."""

    fd: int

    def fileno(self) -> int:
        return self.fd


class Console:
    """`attach` at work in a thread: `guest` is the guest's end, `typing` the keyboard's."""

    def __init__(self, monkeypatch, keyboard: tuple[int, int] | None = None) -> None:
        self.guest, self._port = pty.openpty()
        tty.setraw(self._port)  # as QEMU does
        self.typing, self.terminal = keyboard or pty.openpty()
        self.screen, shown = os.pipe()
        self._ends = [self.terminal, shown, self._port]
        ends = SimpleNamespace(stdin=Descriptor(self.terminal), stdout=Descriptor(shown))
        monkeypatch.setattr(console, "sys", ends)  # pytest has the streams of sys itself
        self._thread = ThreadPoolExecutor(1)
        self._attached = self._thread.submit(attach, Path(os.ttyname(self._port)))

    def read(self, fd: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert select.select([fd], [], [], TIMEOUT)[0], data
            data += os.read(fd, size - len(data))
        return data

    def hang_up(self) -> None:
        """The guest ends; QEMU and its port are gone."""
        os.close(self._port)
        self._ends.remove(self._port)
        os.close(self.guest)
        self.guest = -1

    def left(self) -> bool:
        """Wait for the end of `attach`; raise what it raised."""
        self._attached.result(TIMEOUT)
        return True

    def close(self) -> None:
        if not self._attached.done():
            os.write(self.typing, LEAVE)
        self._thread.shutdown()
        for fd in (*self._ends, self.typing, self.screen, self.guest):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def joined(monkeypatch) -> Iterator[Console]:
    made = Console(monkeypatch)
    yield made
    made.close()


def test_what_is_typed_and_what_is_said(joined):
    os.write(joined.guest, b"login: \r\n\x1b[1m")
    assert joined.read(joined.screen, 13) == b"login: \r\n\x1b[1m"
    os.write(joined.typing, b"root\r\x03")  # Ctrl-C goes to the guest
    assert joined.read(joined.guest, 6) == b"root\r\x03"
    os.write(joined.typing, b"last" + LEAVE + b"not sent")
    assert joined.left()
    assert joined.read(joined.guest, 4) == b"last"
    assert not select.select([joined.guest], [], [], 0)[0]


def test_the_terminal_is_raw_meanwhile_and_then_as_before(joined):
    before = None
    os.write(joined.guest, b"x")
    joined.read(joined.screen, 1)
    raw = termios.tcgetattr(joined.terminal)
    assert not raw[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
    os.write(joined.typing, LEAVE)
    assert joined.left()
    before = termios.tcgetattr(joined.terminal)
    assert before[3] & termios.ECHO
    assert before[3] & termios.ICANON


def test_the_guest_ends(joined):
    os.write(joined.guest, b"bye")
    assert joined.read(joined.screen, 3) == b"bye"
    joined.hang_up()
    assert joined.left()
    assert termios.tcgetattr(joined.terminal)[3] & termios.ICANON


def test_much_is_said_at_once(joined):
    said = bytes(range(32, 127)) * 200
    writer = threading.Thread(target=lambda: os.write(joined.guest, said))
    writer.start()
    assert joined.read(joined.screen, len(said)) == said
    writer.join(TIMEOUT)
    assert len(said) > CHUNK


def test_input_that_is_no_terminal_ends_at_its_end(monkeypatch):
    terminal, typing = os.pipe()
    joined = Console(monkeypatch, (typing, terminal))
    try:
        os.write(joined.typing, b"uname\n")
        assert joined.read(joined.guest, 6) == b"uname\n"
        os.close(joined.typing)
        joined.typing = -1
        assert joined.left()
    finally:
        joined.close()


def test_our_terminal_hangs_up(monkeypatch):
    """It can be put back no more, which is no error."""
    joined = Console(monkeypatch)
    try:
        os.write(joined.guest, b"x")
        assert joined.read(joined.screen, 1) == b"x"
        os.close(joined.typing)
        joined.typing = -1
        assert joined.left()
    finally:
        joined.close()


def test_input_that_fails_ends_too(monkeypatch):
    """To read the master of a pty is an error once its slave is closed."""
    master, slave = pty.openpty()
    joined = Console(monkeypatch, (slave, master))
    try:
        os.close(joined.typing)
        joined.typing = -1
        assert joined.left()
    finally:
        joined.close()


def test_no_such_port(tmp_path):
    with pytest.raises(HostError, match=rf"cannot open {tmp_path}/none: No such file"):
        attach(tmp_path / "none")
