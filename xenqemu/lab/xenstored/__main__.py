"""``python -m xenqemu.lab.xenstored SOCKET [--pid-file F] [--state F]``: serve until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import StoreError, XenqemuError
from xenqemu.lab.xenstored import kept_state
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.lab.xenstored.event_loop import Server
from xenqemu.lab.xenstored.listener import listening


def main(arguments: list[str] | None = None) -> int:
    """Serve in the foreground; return the exit code."""
    parser = argparse.ArgumentParser(prog="xenqemu.lab.xenstored", description=__doc__)
    parser.add_argument("socket", type=Path, help="the Unix socket to make and to serve")
    parser.add_argument("--pid-file", type=Path, help="where to write the process id")
    parser.add_argument("--state", type=Path, help="where to keep the store over a restart")
    chosen = parser.parse_args(arguments)
    try:
        _serve(chosen.socket, chosen.pid_file, chosen.state)
    except XenqemuError as error:
        sys.stderr.write(f"xenstored: {error}\n")
        return error.exit_code
    return 0


def _serve(path: Path, pid_file: Path | None, state_file: Path | None) -> None:
    daemon = Daemon()
    if state_file is not None:
        kept_state.load(daemon, state_file)
    with (
        contextlib.closing(Server(daemon, state_file)) as server,
        _stopped_by_signals(server),
        listening(path) as listener,
        _pid_in(pid_file),
    ):
        try:
            server.serve(listener)
        except OSError as error:
            raise StoreError(f"{state_file}: the state could not be saved: {error}") from error


@contextlib.contextmanager
def _pid_in(file: Path | None) -> Iterator[None]:
    """Keep our process id in `file`, which appears whole."""
    if file is None:
        yield
        return
    draft = file.with_name(f"{file.name}.new")
    try:
        draft.write_text(f"{os.getpid()}\n")
        draft.replace(file)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror}") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    """Stop the server on SIGTERM and SIGINT; the byte that Python writes for them wakes it."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: None) for number in signals]
    signal.set_wakeup_fd(server.waker.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
