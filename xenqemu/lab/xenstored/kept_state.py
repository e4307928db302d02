"""The state file of xenstored, by which a lab that is started again finds its domains.

::

    {"nodes":   [[path, value, [permission, ...]], ...],     parents before their children
     "domains": {domid: has it shut down, ...}}

Values are any bytes; each byte is the character of that number (Latin-1).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xenqemu.errors import StoreError
from xenqemu.lab.xenstored import paths
from xenqemu.lab.xenstored.daemon import Daemon
from xenqemu.lab.xenstored.domains import Domains
from xenqemu.lab.xenstored.tree import Tree

STATE_MAX = 256 << 20
"""Bytes of a state file at most; a full store with short values has less."""

_ILL_FORMED = (
    StoreError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)


def save(daemon: Daemon, file: Path) -> None:
    """Write the state; the old one stays until the new one is whole.  Raises `OSError`."""
    nodes = [
        [path, node.value.decode("latin-1"), list(node.permissions)]
        for path, node in daemon.tree.walk("/")
    ]
    draft = file.with_name(f"{file.name}.new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps({"nodes": nodes, "domains": daemon.domains.latches}))
    draft.replace(file)


def load(daemon: Daemon, file: Path) -> None:
    """Load the state, if there is a file; raise `StoreError` if it is not one of ours."""
    try:
        with file.open("rb") as stream:
            data = stream.read(STATE_MAX + 1)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{file}: {error.strerror}") from error
    if len(data) > STATE_MAX:
        raise StoreError(f"{file}: more than {STATE_MAX} bytes")
    try:
        state = json.loads(data)
        tree, domains = _tree(state["nodes"]), _domains(state["domains"])
    except _ILL_FORMED as error:
        raise StoreError(f"{file}: not a state of xenstored: {error}") from error
    daemon.tree, daemon.domains = tree, domains


def _tree(nodes: list[Any]) -> Tree:
    tree = Tree()
    for path, value, permissions in nodes:
        tree.write(paths.canonical(path), value.encode("latin-1"))
        tree.set_permissions(paths.canonical(path), permissions)
    return tree


def _domains(latches: dict[str, Any]) -> Domains:
    domains = Domains()
    for domid, latch in latches.items():
        domains.introduce(int(domid))
        if latch:
            domains.shut_down(int(domid))
    return domains
