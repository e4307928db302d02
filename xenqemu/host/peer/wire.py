"""Two descriptors that lead to another host; every wait on them has a deadline.

They are pipes or sockets.  A write is tried only when poll(2) says that it is possible, so that
blocking descriptors that others share can be left as they are: messages always fit.  A caller that
writes more makes `outgoing` non-blocking.

The end of the other host's output (`read` returns nothing) and its closed input
(`BrokenPipeError`) are two things: a process that has ended is seen as either.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO

from xenqemu.errors import HostTimeout, ProtocolError
from xenqemu.formats.stream.buffers import Buffer
from xenqemu.formats.stream.source import CHUNK
from xenqemu.system import descriptors
from xenqemu.system.cancellation import check_often, wait_cancellable
from xenqemu.system.deadline import Deadline

Ready = Callable[[Mapping[int, int], float], Collection[int]]


class Wire:
    """The way to the other host and back; both are raw files, as `open(…, buffering=0)` gives.

    It waits by `ready`, like that of `descriptors`, which may do something else meanwhile.
    """

    def __init__(
        self, incoming: IO[bytes], outgoing: IO[bytes], ready: Ready = descriptors.ready
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self._ready = ready

    def fileno(self) -> int:
        """Return what is read from, for a poll."""
        return self.incoming.fileno()

    def read(self, size: int, deadline: Deadline) -> bytes:
        """Return up to `size` bytes, b"" once there will be no more; raise `HostTimeout`."""
        fd = self.incoming.fileno()
        self._await(fd, select.POLLIN, deadline, "the other host sent nothing")
        try:
            return os.read(fd, size)
        except ConnectionResetError:  # how a socket says it where something was left unread
            return b""

    def read_all(self, limit: int, deadline: Deadline) -> bytes:
        """Return all that comes until its end.

        Raises `HostTimeout` where that has not come by the deadline, `ProtocolError` where it has
        more than `limit` bytes.
        """
        data = bytearray()
        while piece := self.read(CHUNK, deadline):
            data += piece
            if len(data) > limit:
                raise ProtocolError(f"more than {limit} bytes")
            if deadline.passed:  # though there is more
                raise HostTimeout("the other host sent no end")
        return bytes(data)

    def writev(self, buffers: Sequence[Buffer], deadline: Deadline) -> int:
        """Write some of `buffers` and return how many bytes; raise `HostTimeout`.

        Raises `BrokenPipeError` once nobody reads any more, or after `hang_up`.
        """
        if self.outgoing.closed:
            raise BrokenPipeError(errno.EPIPE, "closed already")
        fd = self.outgoing.fileno()
        self._await(fd, select.POLLOUT, deadline, "the other host read nothing")
        try:
            return os.writev(fd, buffers)
        except ConnectionResetError as error:
            raise BrokenPipeError(*error.args) from error

    def hang_up(self) -> None:
        """Close our output to the other host; may be repeated."""
        self.outgoing.close()

    def _await(self, fd: int, event: int, deadline: Deadline, trouble: str) -> None:
        check_often()  # a host that always has a byte more is never waited for
        if not wait_cancellable(partial(self._ready, {fd: event}), deadline.left):
            raise HostTimeout(trouble)


class Incoming:
    """What is read from a wire, for a `Source`; it may pause for `stall` seconds.

    Where there are several, `name` says in an error which one it is.
    """

    def __init__(self, wire: Wire, stall: float, name: str = "") -> None:
        self._wire = wire
        self._stall = stall
        self._name = name

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes, b"" at the end; raise `HostTimeout`."""
        try:
            return self._wire.read(size, Deadline.after(self._stall))
        except HostTimeout as error:
            raise HostTimeout(f"{self._name}: {error}" if self._name else str(error)) from error


@contextmanager
def standard_wire() -> Iterator[Wire]:
    """Use standard input and output as a wire to whoever started us, for the block.

    Meanwhile what we, or programs that we start, print goes to standard error, and their standard
    input is empty: nothing gets between the messages.
    """
    sys.stdout.flush()
    with ExitStack() as stack:
        incoming, outgoing = _kept(0, "rb", stack), _kept(1, "wb", stack)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        stack.callback(sys.stdout.flush)
        yield Wire(incoming, outgoing)


def _kept(fd: int, mode: str, stack: ExitStack) -> IO[bytes]:
    """Return a file for a duplicate of `fd`; `stack` restores `fd` in the end."""
    spare = os.dup(fd)
    stack.callback(os.close, spare)
    stack.callback(os.dup2, spare, fd)
    return stack.enter_context(open(os.dup(fd), mode, buffering=0))
