"""What a handled request comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xenqemu.lab.xenstored import xs_wire
from xenqemu.lab.xenstored.tree import Change
from xenqemu.lab.xenstored.xs_wire import Packet

OK = xs_wire.join("OK")


@dataclass(frozen=True)
class Reply:
    """The payload of the reply, what all watches are told then, and a first event for a watch."""

    payload: bytes = OK
    changes: Sequence[Change] = ()
    event: Packet | None = None
