"""The result of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.tree import Change
from xenqemu.lab.xenstored.xs_wire import Packet

OK = xs_wire.join("OK")


@dataclass(frozen=True)
class Reply:
    """The payload of the reply, the changes for all watches, and a first event for a new watch."""

    payload: bytes = OK
    changes: Sequence[Change] = ()
    event: Packet | None = None
