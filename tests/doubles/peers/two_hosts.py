"""Two worlds and a wire: a guest moves from one to the other, each side a process of its own.

The sides are forked, so that one of them can be killed and the other goes on.  What each leaves,
its guests and its error, is brought back into its world.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.doubles.in_memory.faults import text
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import UUID, config
from tests.doubles.in_memory.world import World
from xenqemu.errors import OutcomeUnknown, PastReturn, RolledBack, Stranded
from xenqemu.formats.migration.handshake import Role
from xenqemu.host.disk import lease
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.peer.peer_messages import Peer
from xenqemu.host.peer.wire import Wire
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations import migrate as migrating
from xenqemu.operations.options import MigrateOptions, ReceiveOptions
from xenqemu.operations.preflight import Agreement
from xenqemu.operations.receive import receive

THERE = "there"
PATIENT = Deadlines(peer_banner=30, peer_stall=30, peer_ready=30, peer_message=30)
TIMEOUT = 60
"""Seconds after which a side that hangs is ended, by SIGALRM."""

HERE = "may have run already: it is the guest now"
"""What a receiver says behind its point of no return."""

Side = Callable[[IO[bytes], IO[bytes]], object]


@dataclass(frozen=True)
class End:
    """How a side ended: its `error` is None if it went well; `killed` ones say nothing."""

    kind: type[BaseException] | None = None
    words: str = ""
    calls: tuple[str, ...] = ()
    killed: bool = False

    @property
    def unknown(self) -> bool:
        return self._is(OutcomeUnknown, "nobody here can tell which copy lives")

    @property
    def past_return(self) -> bool:
        return not self.unknown and self._is(PastReturn, "the guest is on there now", HERE)

    @property
    def stranded(self) -> bool:
        return self._is(Stranded, "left to do")

    @property
    def rolled_back(self) -> bool:
        return self._is(RolledBack, "the guest is as it was", "it is rolled back")

    @property
    def untouched(self) -> bool:
        known = self.unknown or self.past_return or self.stranded or self.rolled_back
        return self.kind is not None and not known

    def _is(self, kind: type[BaseException], *words: str) -> bool:
        if self.kind is None:
            return False
        said = any(each in self.words for each in words)
        assert said or not issubclass(self.kind, kind), self
        return issubclass(self.kind, kind) or (self.kind is KeyboardInterrupt and said)


@dataclass(frozen=True)
class Move:
    """A guest's way from `source` to `target`."""

    source: World
    target: World
    image: Path | None = None
    paused: bool = False
    features: frozenset[str] = frozenset()
    precopy: PrecopyOptions | None = None

    @classmethod
    def prepared(cls, disk: bool = False, **options: Any) -> Move:
        """Return a move that is yet to begin, of a guest with a `disk` on storage of both hosts."""
        source = World(sends=True)
        image = source.image if disk else None
        if image:
            source.guests = {1: Guest.running(what=config(image=image))}
            lease.take(image, source.host.owner(UUID))
        return cls(source, World(guests={}, next_domid=7), image, **options)

    def owners(self) -> list[World]:
        """Return the worlds that have a part in the lease of the disk, the holder first."""
        found = self.image and lease.held(self.image)
        parties = [party for party in (found.owner, found.next_owner) if party] if found else []
        both = {str(world.folder): world for world in (self.source, self.target)}
        return [both[party.host] for party in parties]

    def run(self) -> tuple[End, End]:
        """Let both sides run to their ends."""
        return self._both(self.send, self.take)

    def _both(self, send: Side, take: Side) -> tuple[End, End]:
        there, back = os.pipe(), os.pipe()
        sender = _forked(self.source, send, (back[0], there[1]), (back[1], there[0]))
        receiver = _forked(self.target, take, (there[0], back[1]), (there[1], back[0]))
        for fd in (*there, *back):
            os.close(fd)
        return _ended(self.source, sender), _ended(self.target, receiver)

    def send(self, incoming: IO[bytes], outgoing: IO[bytes]) -> object:
        """Be the sender, in a process of its own."""

        @contextmanager
        def receiver_by(*_: object) -> Iterator[Peer]:
            wire = Wire(incoming, outgoing)
            with contextlib.closing(incoming), contextlib.closing(outgoing):
                yield Peer(Role.SENDER, wire, lambda: "it ended", PATIENT)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(migrating, "receiver_by", receiver_by)
            patch.setattr(migrating, "agree", lambda *_: Agreement("", self.features))
            return migrating.migrate(
                self.source.host,
                self.source.domain(),
                THERE,
                MigrateOptions(precopy=self.precopy),
                observe=self.source.observe,
            )

    def take(self, incoming: IO[bytes], outgoing: IO[bytes]) -> object:
        """Be the receiver, in a process of its own."""
        peer = Peer(Role.RECEIVER, Wire(incoming, outgoing), None, PATIENT)
        return receive(
            self.target.host,
            peer,
            ReceiveOptions(paused=self.paused),
            features=self.features,
            observe=self.target.observe,
        )


def _forked(world: World, side: Side, ours: tuple[int, int], theirs: tuple[int, int]) -> int:
    """Run a side in a child; `ours` are what it reads from and writes to."""
    child = os.fork()
    if child:
        return child
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TIMEOUT)
    for fd in theirs:
        os.close(fd)
    error: BaseException | None = None
    try:
        with ExitStack() as stack, world.watching():
            incoming = stack.enter_context(open(ours[0], "rb", buffering=0))
            outgoing = stack.enter_context(open(ours[1], "wb", buffering=0))
            side(incoming, outgoing)
    except BaseException as raised:  # noqa: BLE001  it is judged by the parent
        error = raised
    finally:
        end = End(error and type(error), text(error), tuple(world.calls))
        left = world.left()
        (world.folder / "end").write_bytes(pickle.dumps((end, left)))
        os._exit(0)


def _ended(world: World, child: int) -> End:
    """Wait for a side and take what it left into its world."""
    _, status = os.waitpid(child, 0)
    world.heal()
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL, f"it hung: signal {os.WTERMSIG(status)}"
        left = pickle.loads((world.folder / "guests").read_bytes())
        end = End(killed=True)
    else:
        end, left = pickle.loads((world.folder / "end").read_bytes())
    world.inherit(left)
    return end
