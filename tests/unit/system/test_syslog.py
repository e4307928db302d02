"""Messages to a log that is there, is not, does not listen, or takes nothing."""

import os
import socket

import pytest

from xenqemu.system import syslog
from xenqemu.system.syslog import LONGEST, Severity, log


@pytest.fixture
def place(tmp_path, monkeypatch):
    path = tmp_path / "log"
    monkeypatch.setattr(syslog, "SOCKET", str(path))
    return path


@pytest.fixture
def daemon(place):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
        yield listener


def test_a_message(daemon):
    log(Severity.WARNING, "größer \udcff")
    told = f"<28>xenqemu[{os.getpid()}]: größer \\udcff"
    assert daemon.recv(1 << 16) == told.encode()


def test_a_long_one_is_cut(daemon):
    log(Severity.INFO, "x" * 100_000)
    assert len(daemon.recv(1 << 20)) == LONGEST


def test_no_log_is_running(place):
    log(Severity.INFO, "nobody hears it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(place))
    log(Severity.INFO, "its daemon has ended")


def test_a_log_that_takes_nothing_is_not_waited_for(daemon, monkeypatch):
    monkeypatch.setattr(syslog, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError):
        for _ in range(10_000):
            log(Severity.INFO, "x")
