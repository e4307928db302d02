"""Where the extra streams of a migration meet: commands find their receiver by a token.

::

    migrate-receive --streams N --token TOKEN    has the first stream, listens on FOLDER/TOKEN.meet
    migrate-receive --stream K --token TOKEN     has stream K, connects there
        -> u8 K, with its standard input (SCM_RIGHTS)
        <- "j"    joined: from now on the receiver reads it
        <- "t"    taken: the receiver has the whole save file
        <- end

The process that has stream K stays until the end, since sshd closes a stream when its program has
ended.  FOLDER is that of the host's operations, where only its owner may write; so a token has to
be unique, but not secret.  A receiver that is killed leaves a socket that refuses connections; the
next one removes it.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import IO

from xenqemu.errors import HostError, HostTimeout, ReplyLost
from xenqemu.formats.stream.source import CHUNK
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.peer.wire import Incoming, Wire
from xenqemu.system.cancellation import wait_cancellable
from xenqemu.system.deadline import Deadline
from xenqemu.system.descriptors import enlarge, ready
from xenqemu.system.private_folder import locked
from xenqemu.system.process import peer_credentials

DIGITS = 8
"""Hexadecimal digits of a token: in the lab's folder a socket's name must not be longer."""

SUFFIX = ".meet"

JOINED, TAKEN = b"j", b"t"


def new_token() -> str:
    """Return a new token."""
    return token_hex(DIGITS // 2)


class Rendezvous:
    """The receiver's side: streams 1 to `count` - 1 connect to `listener`."""

    def __init__(
        self, listener: socket.socket, count: int, stack: ExitStack, deadlines: Deadlines
    ) -> None:
        self._listener = listener
        self._count = count
        self._stack = stack
        self._deadlines = deadlines
        self._joined: dict[int, socket.socket] = {}
        self._files: dict[int, IO[bytes]] = {}

    def streams(self, first: Wire) -> list[Incoming]:
        """Return the extra streams, once all are connected.

        Raises `HostTimeout` if one does not connect, `ReplyLost` if the first one ends meanwhile.
        """
        wanted = range(1, self._count)
        seconds = self._deadlines.peer_stream * len(wanted)
        deadline = Deadline.after(seconds)
        while missing := [number for number in wanted if number not in self._files]:
            doing = f"waiting for stream {missing[0]} of {self._count}"
            if self._comes_first(first, deadline):
                raise ReplyLost(f"{doing}: the other host closed the connection")
            if deadline.passed:
                raise HostTimeout(f"{doing}: it did not come within {seconds:g} s")
            self._take(missing)
        stall = self._deadlines.peer_stall
        files = [(number, self._files[number]) for number in wanted]
        return [Incoming(Wire(file, file), stall, f"stream {number}") for number, file in files]

    def taken(self) -> None:
        """Tell all streams that the save file is complete; one that has ended needs no answer."""
        for connection in self._joined.values():
            with suppress(OSError):
                connection.send(TAKEN)
            connection.close()

    def _comes_first(self, first: Wire, deadline: Deadline) -> bool:
        """Wait for a connection; return True if the first stream has data instead."""
        both = dict.fromkeys((first.fileno(), self._listener.fileno()), select.POLLIN)
        return first.fileno() in wait_cancellable(partial(ready, both), deadline.left)

    def _take(self, missing: Sequence[int]) -> None:
        """Accept a connection and take its stream; close it if that is not one of the missing ones.

        The message is so short that it arrives at once, or not at all.
        """
        connection = self._stack.enter_context(self._listener.accept()[0])
        connection.settimeout(self._deadlines.peer_end)
        with suppress(OSError):  # it has ended, or sends nothing
            number, file = self._offered(connection)
            if number in missing and _is_ours(connection):
                connection.send(JOINED)
                self._joined[number], self._files[number] = connection, file
                return
        connection.close()

    def _offered(self, connection: socket.socket) -> tuple[int, IO[bytes]]:
        """Return a stream and its number; raise `ConnectionError` where none is offered."""
        said, descriptors, *_ = socket.recv_fds(connection, 1, 1, socket.MSG_CMSG_CLOEXEC)
        files = [self._stack.enter_context(_raw(fd)) for fd in descriptors]
        if not (said and files):
            raise ConnectionError
        enlarge(descriptors[0], CHUNK)
        return said[0], files[0]


@contextmanager
def rendezvous(
    folder: Path, token: str, count: int, deadlines: Deadlines = DEFAULT_DEADLINES
) -> Iterator[Rendezvous]:
    """Listen for the extra ones of `count` streams, for the block; the streams end with it.

    Raises `HostError` if the socket cannot be made.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        try:
            with locked(folder):
                for path in folder.glob(f"*{SUFFIX}"):
                    _remove_if_left(path)
                place = _place(folder, token)
                listener.bind(str(place))
                stack.callback(place.unlink, missing_ok=True)
                place.chmod(0o600)
                listener.listen(count)
        except OSError as error:
            raise HostError(f"cannot listen for streams: {error}") from error
        yield Rendezvous(listener, count, stack, deadlines)


@contextmanager
def joined(
    folder: Path, token: str, number: int, deadlines: Deadlines = DEFAULT_DEADLINES
) -> Iterator[None]:
    """Hand our standard input to the receiver as stream `number`, for the block.

    After the block, wait until the receiver has the save file.  Raises `HostError` if there is no
    such receiver, or if it refuses the stream or gives up.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(deadlines.peer_stream)
        try:
            with locked(folder):
                connection.connect(str(_place(folder, token)))
            socket.send_fds(connection, [bytes([number])], [0])
        except OSError as error:
            raise HostError(f"there is no receiver for stream {number}: {error}") from error
        _expect(connection, JOINED, f"the receiver refused stream {number}")
        yield
        connection.settimeout(deadlines.operation)
        _expect(connection, TAKEN, "the receiver gave up")


def _expect(connection: socket.socket, word: bytes, trouble: str) -> None:
    try:
        if connection.recv(1) == word:
            return
    except TimeoutError as error:
        raise HostTimeout("the receiver does not answer") from error
    except ConnectionResetError:  # how a socket says it where something was left unread
        pass
    raise HostError(trouble)


def _place(folder: Path, token: str) -> Path:
    return folder / f"{token}{SUFFIX}"


def _remove_if_left(path: Path) -> None:
    """Remove a socket where nobody listens any more; the lock keeps others from listening now."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        with suppress(FileNotFoundError, BlockingIOError):  # just removed; a full queue
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()


def _raw(fd: int) -> IO[bytes]:
    return open(fd, "rb", buffering=0)


def _is_ours(connection: socket.socket) -> bool:
    _pid, user, _group = peer_credentials(connection)
    return user == os.geteuid()
