"""What the file of an operation tells: how far it came, and which steps are left to be done.

::

    {"phase": "quiesce"}                                      it begins
    {"register": 2, "role": "undo", "step": {…}}              before the act that it takes back
    {"done": 2}                                               taken back, or of no more use
    {"commit": {"question": {…}, "meaning": …, "then": […]}}  before the point of no return
    {"committed": true}                                       behind it
    {"doubt": "…"}                                            from now on nobody here can tell
    {"doubt": ""}                                             it was not passed

The same lines make the state of a running operation and, read again, that of a killed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from xenqemu.errors import HostError
from xenqemu.operations.journal.log import Found
from xenqemu.operations.journal.steps import KEEP_DISKS, SETTLE, Commit, Step

COMMITTED: Mapping[str, Any] = {"committed": True}
"""The line behind the point of no return."""


CERTAIN: Mapping[str, Any] = {"doubt": ""}
"""The line after which it is certain again that the point of no return was not passed."""


class Role(Enum):
    """What a step is for."""

    UNDO = "undo"
    LEAVING = "leaving"
    FINISH = "finish"


@dataclass(frozen=True)
class Registered:
    """A step that is left to be done, should it come to that."""

    role: Role
    step: Step


@dataclass
class Story:
    """An operation so far; `steps` are those that are left, by their numbers."""

    phase: str = ""
    steps: dict[int, Registered] = field(default_factory=dict)
    commit: Commit | None = None
    committed: bool = False
    doubt: str = ""
    touched: bool = False
    next_number: int = 1

    @classmethod
    def of(cls, found: Found) -> Story:
        """Return what a file tells; raise `HostError` for what no operation writes."""
        story = cls()
        for number, line in enumerate(found.lines, 2):
            try:
                story.take(line)
            except (KeyError, TypeError, ValueError) as error:
                raise HostError(f"{found.path} is damaged: line {number}: {error!r}") from error
        return story

    def take(self, line: Mapping[str, Any]) -> None:
        """Go on by one line."""
        match line:
            case {"phase": str(phase)}:
                self.phase = phase
            case {"register": int(number), "role": role, "step": step}:
                self._register(number, Role(role), Step.of(step))
            case {"done": int(number)} if number < self.next_number:
                self.steps.pop(number, None)  # twice, where Ctrl-C came right after the first
            case {"commit": commit}:
                self.commit = Commit.of(commit)
            case {"committed": True}:
                self._commit()
            case {"doubt": str(doubt)}:
                self.doubt = doubt
            case _:
                raise ValueError(line)

    def numbers(self, role: Role) -> list[int]:
        """Return the steps of a role in the order to do them: undos in reverse."""
        found = [number for number, each in self.steps.items() if each.role is role]
        return found if role is Role.FINISH else found[::-1]

    @property
    def meaning(self) -> str:
        """What is the guest, once the point of no return was passed."""
        return self.commit.meaning if self.commit else ""

    @property
    def only_watches(self) -> bool:
        """Whether nothing is left but to look out for a guest that suspends late."""
        acts = {each.step.act for each in self.steps.values() if each.role is Role.UNDO}
        return acts == {SETTLE} and not self.committed

    @property
    def images(self) -> list[str]:
        """The images that the guest has to have for itself here, should it stay."""
        steps = [self.steps[number].step for number in self.numbers(Role.UNDO)]
        return [
            path for step in steps if step.act == KEEP_DISKS for path in step.arguments["images"]
        ]

    def _register(self, number: int, role: Role, step: Step) -> None:
        self.steps[number] = Registered(role, step)
        self.touched = self.touched or role is Role.UNDO
        self.next_number = max(self.next_number, number + 1)

    def _commit(self) -> None:
        self.committed = True
        self.doubt = ""
        for number in self.numbers(Role.UNDO):
            del self.steps[number]
        for step in self.commit.then if self.commit else ():
            self._register(self.next_number, Role.FINISH, step)
