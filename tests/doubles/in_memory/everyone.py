"""A world of many guests that are saved before a shutdown, and a hook around each of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import config
from tests.doubles.in_memory.world import World
from xenqemu.errors import Forbidden, HostError
from xenqemu.operations.options import SaveOptions
from xenqemu.operations.outcome import Outcome, no_hooks
from xenqemu.operations.save_all import save_all
from xenqemu.settings.xenqemu_conf import SaveAll


def guest(name: str, **state: object) -> Guest:
    uuid = f"00000000-0000-0000-0000-{sum(name.encode()):012}"
    return replace(Guest.running(what=config(name=name, uuid=uuid)), **state)


class Everyone:
    """A world of guests, and the outcome of each."""

    def __init__(self, folder: Path, **guests: dict[str, object]) -> None:
        there = {n: guest(name, **state) for n, (name, state) in enumerate(guests.items(), 1)}
        self.world = World(guests=there)
        self.plan = SaveAll(folder=folder, parallel=1, shutdown_deadline=0.3)
        self.reported: list[Outcome] = []

    def save(self, own=None, check=True, hooks=no_hooks, **plan: object) -> dict[str, str]:
        """Return what became of each, in a few words."""
        chosen = self.plan.but(**plan)
        save_all(
            lambda: self.world.host,
            chosen,
            own or {},
            self.reported.append,
            options=SaveOptions(verify=check),
            hooks=hooks,
        )
        assert self.world.broken == []
        return {outcome.name: outcome.how.value for outcome in self.reported}

    def text(self, name: str) -> str:
        (text,) = [outcome.text for outcome in self.reported if outcome.name == name]
        return text


class FakeHooks:
    """The hooks around each act: they remember it, and forbid it for some guests."""

    def __init__(self, *forbidden: str) -> None:
        self.forbidden = forbidden
        self.seen: list[object] = []

    @contextmanager
    def __call__(self, act, /, **about):
        self.seen.append((act, about))
        if Path(about["file"]).name in self.forbidden:
            raise Forbidden("the backup runs")
        try:
            yield
        except HostError as error:
            error.add_note("reported")
            raise
