"""How long each party has: every wait of this program by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Deadlines:
    """Seconds that each party has: every wait of this program, by name.

    Where libxl waits for the same, the value is libxl's.
    """

    operation: float = 86400.0
    """For all of an operation, up to its point of no return."""

    acknowledge: float = 60.0
    """For a guest to take the request to suspend."""

    suspend: float = 60.0
    """For a guest to suspend, once it has taken the request."""

    late: float = 10.0
    """For a guest that did not suspend in time to do so late, and to be resumed then."""

    store_request: float = 10.0
    """For xenstored to answer one request."""

    qemu_greeting: float = 10.0
    """For QEMU's monitor to greet us: it serves one client at a time."""

    qemu_query: float = 10.0
    """For QEMU to answer a question."""

    qemu_act: float = 60.0
    """For QEMU to do something that is neither a save nor a load."""

    qemu_save: float = 120.0
    """For QEMU to write the state of its devices; libxl waits for that without end."""

    qemu_load: float = 60.0
    """For QEMU to load the state of its devices."""

    xl_command: float = 60.0
    """For xl to list or to destroy a domain; hotplug scripts alone have 40."""

    xl_stall: float = 300.0
    """For xl to read on in a restore: it may have to wait for memory, or for another xl."""

    xl_finish: float = 180.0
    """For xl to end a restore, once it has the last byte."""

    xl_give_up: float = 60.0
    """For xl to take back a restore that is given up."""

    helper_stall: float = 60.0
    """For libxl-save-helper to write or talk on while it saves a PV guest."""

    libxl_lock: float = 10.0
    """For another program to let go of one of libxl's locks on a domain."""

    lease_lock: float = 10.0
    """For another program or host to let go of the lock on the lease of a disk image."""

    peer_banner: float = 120.0
    """For another host to be ready for a guest; a password may be asked for before."""

    peer_stream: float = 120.0
    """For each further stream of a migration to come; a password may be asked for before."""

    peer_answer: float = 60.0
    """For another host to say whether it could take a guest."""

    peer_stall: float = 300.0
    """For another host to take or to send more of a record."""

    peer_ready: float = 300.0
    """For another host to make a domain of a record, once it has the last byte."""

    peer_message: float = 180.0
    """For another host to say or to take any other message."""

    peer_end: float = 2.0
    """For the command that leads to another host to end, and again when told to."""

    qemu_start: float = 60.0
    """In the lab: for QEMU to answer after its start."""

    xenstored_start: float = 10.0
    """In the lab: for xenstored to answer after its start, and to make room in its queue."""

    lab_lock: float = 30.0
    """In the lab: for another command to let go of the host's lock."""


DEFAULT_DEADLINES = Deadlines()
"""What everyone has unless told otherwise."""
