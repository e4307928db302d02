"""``python -m xenqemu.lab.reference_device_model SOCKET``: run it on a socket.

Exits 0 after `quit` or SIGTERM, 134 (as after abort) if it crashed as QEMU would.
"""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from xenqemu.lab.reference_device_model.qemu_versions import Version
from xenqemu.lab.reference_device_model.run_states import QemuRunState
from xenqemu.lab.reference_device_model.server import ReferenceDeviceModel

ABORTED = 134


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal or `quit`; return the exit code."""
    options = _parser().parse_args(arguments)
    server = ReferenceDeviceModel(
        options.socket, version=options.version, state=options.state, disks=options.disks
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    server.serve()
    return ABORTED if server.died else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reference-dm", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("socket", type=Path, help="where to listen")
    parser.add_argument(
        "--version", type=_version, default=(7, 2, 22), help="the version of QEMU to model (7.2.22)"
    )
    parser.add_argument(
        "--state",
        type=QemuRunState,
        choices=list(QemuRunState),
        default=QemuRunState.RUNNING,
        help="the run state at the start",
    )
    parser.add_argument("--disks", action="store_true", help="give the machine disk images")
    return parser


def _version(text: str) -> Version:
    major, minor, micro = (int(part) for part in text.split("."))
    return major, minor, micro


if __name__ == "__main__":
    raise SystemExit(main())
