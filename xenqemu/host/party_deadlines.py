"""The deadlines of all waits, by name."""

from __future__ import annotations

from xenqemu.frozen import Frozen


class Deadlines(Frozen, kw_only=True):
    """Seconds that each party has, for every wait of this program.

    Where libxl waits for the same, the value is libxl's.
    """

    operation: float = 86400.0
    """For all of an operation, up to its point of no return."""

    acknowledge: float = 60.0
    """For a guest to acknowledge the suspend request."""

    suspend: float = 60.0
    """For a guest to suspend, once it has acknowledged the request."""

    late: float = 10.0
    """For a guest that did not suspend in time to do so late, and to be resumed then."""

    store_request: float = 10.0
    """For xenstored to answer one request."""

    qemu_greeting: float = 10.0
    """For QEMU's monitor to greet us: it serves one client at a time."""

    qemu_query: float = 10.0
    """For QEMU to answer a question."""

    qemu_act: float = 60.0
    """For any other command of QEMU."""

    qemu_save: float = 120.0
    """For QEMU to write the state of its devices; libxl waits for that without a deadline."""

    qemu_load: float = 60.0
    """For QEMU to load the state of its devices."""

    xl_command: float = 60.0
    """For xl to list or to destroy a domain; hotplug scripts alone have 40."""

    xl_stall: float = 300.0
    """For xl to read on in a restore: it may have to wait for memory, or for another xl."""

    xl_finish: float = 180.0
    """For xl to end a restore, once it has the last byte."""

    xl_give_up: float = 60.0
    """For xl to clean up a restore that is given up."""

    helper_stall: float = 60.0
    """For libxl-save-helper to send more data or messages while it saves a PV guest."""

    libxl_lock: float = 10.0
    """For another program to release one of libxl's locks on a domain."""

    lease_lock: float = 10.0
    """For another program or host to release the lock on the lease of a disk image."""

    peer_banner: float = 120.0
    """For another host to be ready for a guest; a password may be asked for before."""

    peer_stream: float = 120.0
    """For each extra stream of a migration to connect; a password may be asked for before."""

    peer_answer: float = 60.0
    """For another host to say whether it could take a guest."""

    peer_stall: float = 300.0
    """For another host to read or to send more of a save file."""

    peer_ready: float = 300.0
    """For another host to build a domain, once it has the last byte of the save file."""

    peer_message: float = 180.0
    """For another host to send or to read any other message."""

    peer_end: float = 2.0
    """For the command that leads to another host to end, and again after SIGTERM."""

    command_stall: float = 300.0
    """For a command, or who is at the other end of a pipe, to read or send more of a save file."""

    command_end: float = 600.0
    """For a command to end, once it has or has sent the last byte of a save file."""

    qemu_start: float = 60.0
    """In the lab: for QEMU to answer after its start."""

    xenstored_start: float = 10.0
    """In the lab: for xenstored to answer after its start, and to accept connections."""

    lab_lock: float = 30.0
    """In the lab: for another command to release the host's lock."""


DEFAULT_DEADLINES = Deadlines()
"""The deadlines where no settings say otherwise."""
