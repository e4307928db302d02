"""Two lab hosts in two network namespaces, with a cable between them; needs root."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.lab.guests import PROGRAM, Host, wait

ADDRESSES = ("192.0.2.1", "192.0.2.2")
"""Of the two ends (TEST-NET-1 of RFC 5737: nobody else's)."""

SSH_PORT = 2222
SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
SetEnv PATH={folder}/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
XENQEMU = """\
#!/bin/sh
cd {here} && PYTHONPATH={here} exec {program} --host lab:{lab} "$@"
"""


class NamespacedHost(Host):
    """A lab host in a network namespace, and its address there."""

    def __init__(self, folder: Path, namespace: str, address: str) -> None:
        super().__init__(folder, namespace)
        self.address = address

    def inside(self, *words: object) -> list[str]:
        return [*self._inside, *map(str, words)]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


@contextmanager
def cabled() -> Iterator[tuple[str, str]]:
    """Two namespaces that reach each other and nobody else."""
    names = tuple(f"xenqemu-{os.getpid()}-{end}" for end in "ab")
    with ExitStack() as stack:
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
        _ip(
            *("link", "add", "cable", "netns", names[0], "type", "veth"),
            *("peer", "name", "cable", "netns", names[1]),
        )
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
        yield names[0], names[1]


@contextmanager
def namespaced(room: Path) -> Iterator[tuple[NamespacedHost, NamespacedHost]]:
    """Two lab hosts that are up, each in a namespace."""
    with cabled() as names, ExitStack() as stack:
        hosts = []
        for name, address in zip(names, ADDRESSES, strict=True):
            host = NamespacedHost(room / address, name, address)
            host.must("lab", "up", host.lab.folder)
            stack.callback(host.lab.down)
            hosts.append(host)
        yield hosts[0], hosts[1]


@contextmanager
def sshd(host: NamespacedHost, folder: Path) -> Iterator[str]:
    """An sshd on a host, whose xenqemu is ours; give the command that leads there."""
    for name in ("host", "user"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(key, check=True, timeout=60)
    (folder / "bin").mkdir()
    program = folder / "bin" / "xenqemu"
    words = {"here": Path.cwd(), "program": " ".join(PROGRAM), "lab": host.lab.folder}
    program.write_text(XENQEMU.format(**words))
    program.chmod(0o755)
    config = folder / "sshd_config"
    config.write_text(SSHD_CONFIG.format(address=host.address, port=SSH_PORT, folder=folder))
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd's empty folder, which its service makes
    command = host.inside("/usr/sbin/sshd", "-D", "-e", "-f", config)
    with (folder / "sshd.log").open("wb") as log:
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        words_of = (folder / "sshd.log").read_text
        wait(lambda: "Server listening" in words_of(), words_of)
        yield (
            f"ssh -p {SSH_PORT} -i {folder}/user -o BatchMode=yes "
            f"-o UserKnownHostsFile={folder}/known -o StrictHostKeyChecking=accept-new -q"
        )
    finally:
        daemon.terminate()
        daemon.wait()


LISTEN = """
import socket, subprocess, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listening", flush=True)
    connection, _ = server.accept()
    sys.exit(subprocess.run(sys.argv[3:], stdin=connection, stdout=connection).returncode)
"""
CONNECT = """
import socket, sys, threading
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as connection:
    def send():
        while piece := sys.stdin.buffer.raw.read(1 << 16):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    threading.Thread(target=send, daemon=True).start()
    while piece := connection.recv(1 << 16):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
"""


@contextmanager
def listening(host: NamespacedHost, folder: Path, *options: str) -> Iterator[str]:
    """A socket on a host behind which a receiver waits; give the command that leads there."""
    port = 7000 + os.getpid() % 1000
    scripts = {"listen": LISTEN, "connect": CONNECT}
    for name, text in scripts.items():
        (folder / name).write_text(text)
    receive = host.command("migrate-receive", *options)
    command = host.inside(sys.executable, folder / "listen", host.address, port, *receive)
    with (folder / "listen.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        words_of = (folder / "listen.log").read_text
        wait(lambda: "listening" in words_of(), words_of)
        yield f"exec {sys.executable} {folder}/connect {host.address} {port}"
        assert server.wait(60) == 0, words_of()
    finally:
        server.kill()
        server.wait()
