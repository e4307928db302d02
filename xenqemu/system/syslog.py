"""The system's log: one message to syslogd, or journald in its place (RFC 3164, syslog(3))."""

from __future__ import annotations

import os
import socket
from enum import IntEnum

SOCKET = "/dev/log"
PATIENCE = 1.0
"""Seconds that a log may take to take a message; it is lost then, and an error."""

LONGEST = 8 << 10
"""Bytes of a message at most: journald takes more, rsyslogd by default does not."""

_DAEMON = 3 << 3


class Severity(IntEnum):
    """How grave a message is."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


def log(severity: Severity, text: str) -> None:
    """Send one line; nothing where no log is running.  Raises `OSError` where it takes none."""
    data = f"<{_DAEMON | severity}>xenqemu[{os.getpid()}]: {text}".encode(errors="backslashreplace")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(PATIENCE)
        try:
            sender.connect(SOCKET)
        except (FileNotFoundError, ConnectionRefusedError):  # none is installed, or none runs
            return
        sender.send(data[:LONGEST])
