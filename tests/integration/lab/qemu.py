"""Plain QEMU under TCG for tests: small, without devices that nobody asked for, ended for sure."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MEMORY = 64
"""MiB of RAM, unless told otherwise."""

XEN_SHAPED = ("send-configuration", "store-global-state", "send-section-footer")
"""What accel=xen switches off in the stream of the device state."""


@dataclass
class Qemu:
    """A running process, the path of its QMP socket, and the file that its stderr goes to."""

    process: subprocess.Popen[bytes]
    qmp: Path
    log: Path

    def kill(self) -> None:
        """End it by SIGKILL and wait until it has."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def plain_qemu(
    folder: Path,
    name: str = "guest",
    *,
    memory: int = MEMORY,
    ram: Path | None = None,
    paused: bool = True,
    incoming: bool = False,
    extra: Sequence[str] = (),
) -> Iterator[Qemu]:
    """Start `qemu-system-x86_64`; its socket answers at once, and it is gone after the block.

    `ram` is a file for its memory, `incoming` makes it wait for `migrate-incoming`.
    """
    path = folder / f"{name}.qmp"
    path.unlink(missing_ok=True)
    log = folder / f"{name}.log"
    with socket.socket(socket.AF_UNIX) as listener, log.open("wb") as stderr:
        listener.bind(str(path))
        listener.listen(1)
        command = [*_command(listener.fileno(), memory, ram), *extra]
        command += ["-S"] * paused + ["-incoming", "defer"] * incoming
        process = subprocess.Popen(
            command, pass_fds=[listener.fileno()], stdin=subprocess.DEVNULL, stderr=stderr
        )
    qemu = Qemu(process, path, log)
    try:
        yield qemu
    finally:
        qemu.kill()


def _command(listener: int, memory: int, ram: Path | None) -> list[str]:
    command = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"]
    command += ["-machine", "pc,accel=tcg,suppress-vmdesc=on", "-m", str(memory)]
    command += ["-chardev", f"socket,id=qmp,fd={listener},server=on,wait=off"]
    command += ["-mon", "chardev=qmp,mode=control"]
    for name in XEN_SHAPED:
        command += ["-global", f"migration.{name}=off"]
    if ram is not None:
        backend = f"memory-backend-file,id=ram,size={memory}M,mem-path={ram},share=on"
        command += ["-object", backend, "-machine", "memory-backend=ram"]
    return command
