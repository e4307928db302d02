"""What an operation has done on one guest, step by step, and how that is taken back or finished.

An undo is registered before its act and may run although the act never happened, so undos are
acts that may be repeated.  When an operation fails they run in reverse.  After the commit nothing
is taken back, and what is to follow is done all the same.

Where another host passes the point of no return, nobody here can tell for a while: neither the way
back is gone nor the way on, until somebody has looked.

All of it is written to the operation's file first, so that `recover` can do the same for a process
that was killed, by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from xenqemu.errors import HostError
from xenqemu.host.protocol import Host, MaySuspendYet
from xenqemu.operations.events import Event, Kind, Observer, Phase, unobserved
from xenqemu.operations.journal.log import Entry
from xenqemu.operations.journal.steps import Commit, Overtaken, Step
from xenqemu.operations.journal.story import CERTAIN, COMMITTED, Role, Story


class Account:
    """The steps of one operation, in its file `entry`; `story` is what that tells already.

    The file stays if anything is left to be done, and is removed if not, by whoever closes it.
    """

    def __init__(
        self,
        host: Host,
        entry: Entry,
        observe: Observer = unobserved,
        story: Story | None = None,
    ) -> None:
        self._host = host
        self._entry = entry
        self._observe = observe
        self._story = story or Story()

    def undo(self, step: Step) -> int:
        """Register what takes back what is about to be done; return its number."""
        return self._register(Role.UNDO, step)

    def leaving(self, step: Step) -> int:
        """Register what clears away what is left if it fails; return its number."""
        return self._register(Role.LEAVING, step)

    def take_back(self, number: int) -> None:
        """Run one undo now, because the operation is meant to; it stays registered if it fails."""
        self._story.steps[number].step.perform(self._host)
        self.drop(number)

    def drop(self, number: int) -> None:
        """Forget a step: there is no need for it any more."""
        self._write({"done": number})

    def commit(self, act: Callable[[], None], commit: Commit) -> None:
        """Pass the point of no return by `act`; if that raises, it is asked whether it was passed.

        A rename whose answer was lost, or that Ctrl-C came right after, has been done.
        """
        self.foresee(commit)
        try:
            act()
        except BaseException as error:
            self._see_whether_passed(commit, error)
            raise
        self._commit()

    def doubt(self, commit: Commit, what: str) -> None:
        """Begin an act of which nobody here can tell whether it passes the point of no return.

        `what` tells people where both copies are.  It lasts until `resolve` says how it ended.
        """
        self.foresee(commit)
        self._write({"doubt": what})

    def resolve(self, *, passed: bool) -> None:
        """End the doubt: the point of no return was passed, or the guest is as before."""
        if passed:
            self._commit()
        else:
            self._story.take(CERTAIN)
            self._entry.write(CERTAIN)

    @property
    def committed(self) -> bool:
        """Whether the point of no return was passed."""
        return self._story.committed

    @property
    def undone(self) -> bool:
        """Whether nothing is left to be taken back of what was done, nor ever was to be kept."""
        story = self._story
        return not (story.committed or story.doubt or story.numbers(Role.UNDO))

    def foresee(self, commit: Commit) -> None:
        """Note a point that a killed process may have passed; in this one, nothing changes."""
        self._write({"commit": commit.line()})

    def finish(self) -> None:
        """Do what follows the point of no return."""
        for number in self._story.numbers(Role.FINISH):
            self.take_back(number)

    def settle(self, first: BaseException) -> list[str]:
        """Undo all that is left, last first, or finish, and clear away what is left of drafts.

        Returns what could not be done to the guest; what gets in the way but changes nothing for
        it is noted at `first`.  In doubt, nothing is done.
        """
        if self._story.doubt:
            self._entry.unfinished = True
            return []
        notes = self._put_back(first)
        self._clear_away(first)
        return notes

    def recover(self, cause: HostError, *, moved: bool | None = None) -> list[str]:
        """Do for a process that was killed what it would have done on an error; as `settle`.

        A guest that has not suspended by now is not waited for once more.  `moved` ends a doubt:
        the guest is the other copy, or not.
        """
        if self._story.doubt:
            if moved is None:
                self._entry.unfinished = True
                return [self._story.doubt]
            self.resolve(passed=moved)
        commit = self._story.commit
        if commit and not self._story.committed:
            self._see_whether_passed(commit, cause)
        notes = self._put_back(cause)
        self._entry.unfinished &= bool(notes)
        self._clear_away(cause)
        return notes

    def _put_back(self, first: BaseException) -> list[str]:
        role = Role.FINISH if self._story.committed else Role.UNDO
        notes = [self._settled(number, first) for number in self._story.numbers(role)]
        return [note for note in notes if note]

    def _clear_away(self, first: BaseException) -> None:
        """Remove what is left of drafts; what cannot be removed now stays to be done."""
        for number in self._story.numbers(Role.LEAVING):
            note = self._settled(number, first)
            if note:
                first.add_note(note)

    def _commit(self) -> None:
        self._story.take(COMMITTED)
        self._entry.write(COMMITTED)

    def _register(self, role: Role, step: Step) -> int:
        number = self._story.next_number
        self._write({"register": number, "role": role.value, "step": step.line()})
        return number

    def _write(self, line: Mapping[str, object]) -> None:
        self._entry.write(line)
        self._story.take(line)

    def _see_whether_passed(self, commit: Commit, first: BaseException) -> None:
        """Ask whether the point of no return was passed; who cannot be told puts the guest back.

        It is noted: when somebody asks again, the record may have been moved away.
        """
        passed = False

        def ask() -> None:
            nonlocal passed
            passed = commit.passed(self._host)

        self._attempt(ask, "see how far it came", first)
        if passed:
            self._story.take(COMMITTED)
            self._attempt(lambda: self._entry.write(COMMITTED), "note it", first)

    def _settled(self, number: int, first: BaseException) -> str:
        """Do a step because the operation failed; return what to say if it could not be done."""
        step = self._story.steps[number].step
        self._tell(Event(Phase.UNDO, Kind.STARTED, text=step.what), first)
        error = attempt(lambda: step.perform(self._host))
        if error is None:
            self._tell(Event(Phase.UNDO, Kind.DONE, text=step.what), first)
            self._attempt(lambda: self.drop(number), "note it", first)
            return ""
        self._tell(Event(Phase.UNDO, Kind.FAILED, text=in_words(error)), first)
        self._entry.unfinished |= not isinstance(error, Overtaken)
        if isinstance(error, MaySuspendYet):
            first.add_note(in_words(error))
            return ""
        return f"could not {step.what}: {in_words(error)}"

    @staticmethod
    def _attempt(act: Callable[[], None], what: str, first: BaseException) -> bool:
        """Do what may fail without harm to the guest, which is then noted at `first`."""
        error = attempt(act)
        if error is not None:
            first.add_note(f"could not {what}: {in_words(error)}")
        return error is None

    def _tell(self, event: Event, first: BaseException) -> None:
        """Tell the observer of a failure; its own is noted at `first`, and keeps no undo away.

        Who watches is often gone by then: a terminal that hung up, a pipe that nobody reads.
        """
        if not self._attempt(lambda: self._observe(event), "tell of it", first):
            self._observe = unobserved


def attempt(act: Callable[[], None]) -> BaseException | None:
    """Do `act` and return what it raised: what comes after it must be done in any case."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  Ctrl-C must not keep the other undos away
        return error
    return None


def in_words(error: BaseException) -> str:
    """Return what an error says, its kind if it says nothing."""
    return str(error) or type(error).__name__
