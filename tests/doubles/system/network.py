"""Network namespaces of a test's own, with the interfaces it needs."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNET = 0x40000000


@contextmanager
def namespace() -> Iterator[None]:
    """Run the block, of this thread, in an empty network namespace, which ends with it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _do(_LIBC.unshare(_NEWNET))
        ip("link set lo up")
        yield
    finally:
        _do(_LIBC.setns(before, _NEWNET))
        os.close(before)


def ip(line: str) -> str:
    """Run `ip` with the words of a line and return what it prints."""
    return subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=True).stdout


def bridge(name: str, mtu: int = 1500) -> None:
    """Make a bridge that is up, and forwards at once."""
    ip(f"link add dev {name} type bridge forward_delay 0")
    ip(f"link set dev {name} mtu {mtu} up")  # set so, it does not follow that of the ports


def vif(name: str) -> None:
    """Make what netback makes of a guest's card: an interface that is down; `peer` is the guest."""
    ip(f"link add dev {name} type veth peer name peer{name.removeprefix('vif')}")


def see(mac: str, port: str) -> None:
    """Have a bridge think that it has seen an address behind a port, once that forwards."""
    wait_forwarding(port)
    _bridge(f"fdb add {mac} dev {port} master dynamic")


def wait_forwarding(port: str) -> None:
    """Wait until a port of a bridge forwards: a little after both its ends are up."""
    deadline = time.monotonic() + 20
    while '"state":"forwarding"' not in _bridge(f"-json link show dev {port}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def seen(name: str) -> str:
    """Return which addresses a bridge has seen where."""
    return _bridge(f"fdb show br {name}")


def _bridge(line: str) -> str:
    command = ["bridge", *line.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def open_vswitch(folder: Path, bridge_name: str) -> Iterator[None]:
    """Run an Open vSwitch with one bridge; it is a process, so that the kernel need not have one.

    It is found by what `OVS_FOLDERS` name in the environment, which must be `folder`.
    """
    database = f"unix:{folder}/db.sock"
    daemons = [
        ["ovsdb-server", str(folder / "conf.db"), f"--remote=p{database}"],
        ["ovs-vswitchd", database, "--disable-system"],
    ]
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    subprocess.run(["ovsdb-tool", "create", str(folder / "conf.db"), schema], check=True)
    pids = [folder / f"{number}.pid" for number in range(2)]
    for daemon, pid in zip(daemons, pids, strict=True):
        command = [*daemon, "--detach", "--no-chdir", f"--pidfile={pid}", "--log-file=/dev/null"]
        subprocess.run([*command, "-vconsole:off"], check=True, capture_output=True)
    try:
        vsctl("add-br", bridge_name, "--", "set", "bridge", bridge_name, "datapath_type=netdev")
        yield
    finally:
        for pid in reversed(pids):
            os.kill(int(pid.read_text()), signal.SIGTERM)


OVS_FOLDERS = ("OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR")


def vsctl(*words: str) -> str:
    """Run `ovs-vsctl` and return what it prints."""
    command = ["ovs-vsctl", "--timeout=20", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _do(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), "namespace")
