"""How far an operation has come: the state that the lines of its log make, running or replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xenqemu.formats.typed_json import typed
from xenqemu.operations.journal.steps import Commit, KeepDisks, RemoveDraft, Step, WithdrawSuspend
from xenqemu.shown_text import shown

Line = Mapping[str, Any]


@dataclass
class LogState:
    """How far an operation has come, and the steps that are left, by their numbers.

    `undos` are performed before the commit, `following` after it, `cleanups` in both cases.
    """

    phase: str = ""
    undos: dict[int, Step] = field(default_factory=dict)
    cleanups: dict[int, Step] = field(default_factory=dict)
    following: dict[int, Step] = field(default_factory=dict)
    registered: int = 0
    touched: bool = False
    commit: Commit | None = None
    committed: bool = False
    doubt: str = ""

    def take(self, line: Line) -> None:
        """Apply one line; raise `ValueError` or `TypeError` for what no operation writes."""
        match line:
            case {"phase": str(phase)}:
                self.phase = phase
            case {"undo": step}:
                self._register(self.undos, typed(Step, step))
                self.touched = True
            case {"cleanup": step}:
                self._register(self.cleanups, typed(Step, step))
            case {"done": int(number)} if 0 < number <= self.registered:
                for steps in (self.undos, self.cleanups, self.following):
                    steps.pop(number, None)  # twice, where Ctrl-C came right after the first
            case {"commit": commit}:
                self.commit = typed(Commit, commit)
            case {"committed": True}:
                self.committed = True
                self.doubt = ""
                self.undos.clear()
                for step in self.commit.then if self.commit else ():
                    self._register(self.following, step)
            case {"doubt": str(doubt)}:
                self.doubt = doubt
            case _:
                raise ValueError(f"{shown(repr(line))} is no line of a log")

    @classmethod
    def replayed(cls, lines: Iterable[Line]) -> LogState:
        """Return what the lines after the first lead to; raise `ValueError` for other lines."""
        state = cls()
        for number, line in enumerate(lines, 2):
            try:
                state.take(line)
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {number}: {error}") from error
        return state

    @property
    def steps(self) -> Mapping[int, Step]:
        """All that are left."""
        return self.undos | self.cleanups | self.following

    @property
    def meaning(self) -> str:
        """What is the guest, once the point of no return was passed."""
        return self.commit.meaning if self.commit else ""

    @property
    def undone(self) -> bool:
        """Whether nothing is left to undo, and the operation neither committed nor is in doubt."""
        return not (self.committed or self.doubt or self.undos)

    @property
    def only_withdraws(self) -> bool:
        """Whether nothing is left but to withdraw a suspend request."""
        late = [
            isinstance(each, WithdrawSuspend) and not each.withdrawn for each in self.undos.values()
        ]
        return bool(late) and all(late)

    @property
    def only_removes(self) -> bool:
        """Whether nothing is left but to remove drafts: the guest is as it was, or saved."""
        left = self.steps.values()
        return not self.doubt and bool(left) and all(isinstance(each, RemoveDraft) for each in left)

    @property
    def images(self) -> list[str]:
        """The images whose leases this host keeps if the guest stays."""
        steps = [step for step in self.undos.values() if isinstance(step, KeepDisks)]
        return [path for step in steps for path in step.images]

    def _register(self, steps: dict[int, Step], step: Step) -> None:
        self.registered += 1
        steps[self.registered] = step
