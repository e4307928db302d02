"""Ctrl-C, again and again: from any call of an operation on, before and after each further one.

A program gets them as `cli.main` has it, a caller of the functions as Python has it.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.doubles.in_memory.world import World
from xenqemu.errors import XenqemuError
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save
from xenqemu.system.signals import ENDING, interrupted_once


@dataclass
class Storm(World):
    """A world in which signals come with each call from number `since` on."""

    since: float = float("inf")
    numbers: tuple[int, ...] = field(default=ENDING)

    def call(self, name: str, act: Callable[[], object]) -> object:
        self._signal()
        done = super().call(name, act)
        self._signal()
        return done

    def _signal(self) -> None:
        if len(self.calls) >= self.since:
            for number in self.numbers:
                signal.raise_signal(number)

    @contextmanager
    def calm(self) -> Iterator[None]:
        since, self.since = self.since, float("inf")
        yield
        self.since = since


@pytest.fixture
def as_a_program():
    """All three come, and are handled as in the command."""
    with interrupted_once(exits=False):
        yield ENDING


@pytest.fixture
def as_functions():
    """Only SIGINT has a handler; the others would kill the tests."""
    return (signal.SIGINT,)


AFTER = pytest.mark.parametrize("after", list(After))


def calls_of(act: Callable[[World], object], make: Callable[[], World]) -> int:
    world = make()
    act(world)
    return len(world.calls)


def ended(act: Callable[[], object]) -> str:
    """Return how an operation ended."""
    try:
        act()
    except KeyboardInterrupt as error:
        return "; ".join(["interrupted", *getattr(error, "__notes__", [])])
    except XenqemuError as error:
        return f"failed; {error}"
    return "done"


@AFTER
def test_a_save_ends_with_one_guest_and_says_where(as_a_program, tmp_path, after):
    """With exit status 0 it is saved; interrupted, the guest is as it was."""
    path = tmp_path / "save"

    def act(world: World) -> object:
        path.unlink(missing_ok=True)
        with world.watching():
            return save(
                *(world.host, world.domain(), path, SaveOptions(after=after)), observe=world.observe
            )

    states = {After.DESTROY: [], After.CONTINUE: [1], After.PAUSE: []}[after]
    ends = set()
    for at in range(calls_of(act, World)):
        with interrupted_once(exits=False):
            world = Storm(since=at)
            end = ended(partial(act, world))
        ends.add(end.partition(";")[0])
        assert "not as it was" not in end, (at, end)
        assert world.broken == []
        if end == "done":
            assert (world.running(), path.exists()) == (states, True), at
        else:
            assert end.startswith("interrupted")
            assert world.running() == [1], (at, end)
        with world.calm():
            assert recover(world.host) == []
    assert ends == {"interrupted", "done"}


@AFTER
def test_a_function_is_interrupted_and_the_guest_is_somewhere(as_functions, tmp_path, after):
    path = tmp_path / "save"

    def act(world: World) -> object:
        path.unlink(missing_ok=True)
        with world.watching():
            return save(world.host, world.domain(), path, SaveOptions(after=after))

    for at in range(calls_of(act, World)):
        world = Storm(since=at, numbers=as_functions)
        end = ended(partial(act, world))
        assert end.startswith("interrupted"), (at, end)
        assert "not as it was" not in end, (at, end)
        whole = path.exists() and after is not After.CONTINUE
        assert world.running() == [1] or whole, (at, end)
        with world.calm():
            recover(world.host)
        assert world.running() == [1] or whole


def test_a_restore_leaves_a_guest_or_nothing(as_a_program, tmp_path):
    path = tmp_path / "save"
    first = World()
    save(first.host, first.domain(), path)

    def act(world: World) -> object:
        with world.watching():
            return restore(world.host, path, observe=world.observe)

    ends = set()
    for at in range(calls_of(act, lambda: World(guests={}))):
        with interrupted_once(exits=False):
            world = Storm(guests={}, since=at)
            end = ended(partial(act, world))
        ends.add(end.partition(";")[0])
        assert len(world.running()) == (end == "done"), (at, end)
        assert world.guests == {} or end == "done"
    assert ends == {"interrupted", "done"}


def test_recover_is_not_interrupted_within_a_guest(as_a_program, tmp_path):
    def killed(since: float) -> Storm:
        world = Storm()

        def observe(event: Event) -> None:
            if (event.phase, event.kind) == (Phase.SAVE, Kind.STARTED):
                world.die()

        path = tmp_path / f"save{since}"
        assert world.outlive(lambda: save(world.host, world.domain(), path, observe=observe))
        assert world.running() == []
        world.calls.clear()
        world.since = since
        return world

    whole = killed(float("inf"))
    recover(whole.host)
    for at in range(len(whole.calls)):
        world = killed(at)
        with interrupted_once(exits=False):
            end = ended(partial(recover, world.host))
        assert end == "interrupted"
        with world.calm():
            recover(world.host)
        assert world.running() == [1], at
