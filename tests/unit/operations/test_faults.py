"""Every call of an operation to a party fails, in every way: where is the guest then?

The table is made, not written: each operation runs once to count its calls (to the hypervisor, the
device model, xenstore, the toolstack, the observer, and the system calls that make a file a
record), then once for each call and each `How`.  After each run the error must say the truth
about guest and record; the user who does what it says has exactly one guest again, and the same
operation then goes well.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

from tests.doubles.in_memory.faults import Fault, How, text
from tests.doubles.in_memory.guest import Guest
from tests.doubles.in_memory.save_files import device_state
from tests.doubles.in_memory.world import World, loaded
from xenqemu.errors import HostError, PastReturn, RolledBack, Stranded
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.options import After, RestoreOptions, SaveOptions
from xenqemu.operations.recover import recover
from xenqemu.operations.restore import restore
from xenqemu.operations.restore_through import restore_through
from xenqemu.operations.save import save
from xenqemu.operations.save_devices import save_devices
from xenqemu.operations.sources import FromCommand

OLDER = b"older"
SURVIVED = [how for how in How if not how.kills]
KILLED = [how for how in How if how.kills]
CTRL_C = (How.INTERRUPTED, How.INTERRUPTED_AFTER)
ENDS = {After.DESTROY: None, After.CONTINUE: "running", After.PAUSE: "paused"}

FAIL_BY_THEMSELVES = ("os.link", "os.unlink", "journal.unlink", "moment.enable")
"""What is done to a file that need not be there, or has another way: that it is so is no failure.
"""


class Caught:
    """Keeps whatever its block raises, Ctrl-C too."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True


@dataclass
class Run:
    """One run of an operation, and what it left: `error` is None if it went well."""

    world: World
    path: Path
    error: BaseException | None

    @property
    def words(self) -> str:
        return text(self.error)

    @property
    def past_return(self) -> bool:
        """Whether the error says that the other copy is the guest."""
        return self._is(PastReturn, "is the guest now")

    @property
    def stranded(self) -> bool:
        """Whether the error lists what is left to do."""
        return self._is(Stranded, "left to do")

    @property
    def rolled_back(self) -> bool:
        """Whether the error says that the guest was touched, and is as it was."""
        return self._is(RolledBack, self.undone)

    @property
    def untouched(self) -> bool:
        """Whether the error is the first one, as it was raised."""
        return isinstance(self.error, (HostError, OSError, KeyboardInterrupt)) and not (
            self.past_return or self.stranded or self.rolled_back
        )

    @property
    def undone(self) -> str:
        """What an error says of an operation that was rolled back."""
        return (
            "the guest is as it was" if "host.config" in self.world.calls else "it is rolled back"
        )

    def file_is(self, data: bytes | None) -> bool:
        return (self.path.read_bytes() if self.path.exists() else None) == data

    def holds(self, guest: Guest | None) -> bool:
        """Whether the file is a save file of `guest`, or of a destroyed one, at any tick of it."""
        if not self.path.exists() or self.file_is(OLDER):
            return False
        found = loaded(self.path)
        guest = guest or Guest.running(found.tick)
        return (found.pages, found.tick) == (guest.pages, guest.tick)

    def _is(self, kind: type[BaseException], words: str) -> bool:
        said = words in self.words
        assert said or not isinstance(self.error, kind)
        return isinstance(self.error, kind) or (isinstance(self.error, KeyboardInterrupt) and said)


@dataclass(frozen=True)
class Operation:
    """What is run in a world and a folder; `judge` asserts that what it left is as it may be.

    Where the error says that something is left to do, `judge` does it.
    """

    name: str
    prepare: Callable[[Path], World]
    run: Callable[[World, Path], object]
    judge: Callable[[Run], None]
    of_paused: bool = False

    @property
    def verb(self) -> str:
        return self.name.partition(",")[0]

    def first(self, folder: Path, fault: Fault | None = None) -> Run:
        folder.mkdir()
        world = self.prepare(folder / "record")
        world.fault = fault
        return self.again(world, folder / "record")

    def again(self, world: World, path: Path) -> Run:
        with Caught() as caught, world.watching():
            self.run(world, path)
        world.heal()
        return Run(world, path, caught.error)


def do_what_is_left(run: Run) -> None:
    """Be the user who has `recover` do what the error lists."""
    for done in recover(run.world.host):
        assert done.trouble == ()
        assert done.complete


def suspending(
    after: After, older: bytes | None, *, moments: bool = False, **options: Any
) -> Operation:
    def prepare(path: Path) -> World:
        world = with_guest(path, older)
        world.guests[1].moments = moments
        return world

    def run(world: World, path: Path) -> object:
        return save(
            world.host,
            world.domain(),
            path,
            SaveOptions(after=after, **options),
            observe=world.observe,
        )

    def judge(run: Run) -> None:
        guest = run.world.guests.get(1)
        assert guest is None or not (guest.logged or guest.enabled) or run.stranded
        if run.error is None:
            assert run.holds(guest)
            assert (guest and guest.run_state.value) == ENDS[after]
        elif run.past_return:
            assert after is After.DESTROY
            assert run.holds(guest)
            assert run.world.running() == []
            assert f"the save file {run.path} is the guest now" in run.words
            do_what_is_left(run)
            assert run.world.guests == {}
            again = restore(run.world.host, run.path)
            assert run.world.running() == [again.domid]
        elif run.stranded:
            assert run.file_is(older)
            do_what_is_left(run)
            assert run.world.running() == [1]
        else:
            assert run.world.running() == [1]
            assert run.file_is(older) or (after is not After.DESTROY and run.holds(guest))
            suspended = "hypervisor.suspend" in run.world.calls
            assert run.rolled_back or (run.untouched and not suspended)

    name = ", ".join([f"suspend, {after.value}, {older} before", *options, "moment" * moments])
    return Operation(name, prepare, run, judge)


def saving_paused(after: After, *, devices_run: bool) -> Operation:
    """Save a guest that is paused, which it is in the end too; its device model may run or not."""

    def prepare(path: Path) -> World:
        world = World()
        world.guests[1].paused, world.guests[1].devices_run = True, devices_run
        return world

    def run(world: World, path: Path) -> object:
        return save(
            world.host, world.domain(), path, SaveOptions(after=after), observe=world.observe
        )

    def judge(run: Run) -> None:
        assert run.world.running() == []
        if run.stranded or run.past_return:
            do_what_is_left(run)
        guest = run.world.guests.get(1)
        gone = after is After.DESTROY and (run.error is None or run.past_return)
        assert (guest is None) == gone
        if guest:
            state = guest.run_state.value, guest.suspended, guest.devices_run
            assert state == ("paused", False, devices_run)
        if run.error is None or run.past_return:
            assert run.holds(guest)
        if run.past_return:
            again = restore(run.world.host, run.path)
            assert again.paused
            assert run.world.guests[again.domid].run_state.value == "paused"

    name = f"save paused, {after.value}, devices run: {devices_run}"
    return Operation(name, prepare, run, judge, of_paused=True)


def restoring(*, paused: bool, compress: int | None = None, by_command: bool = False) -> Operation:
    def prepare(path: Path) -> World:
        world = World()
        with world.watching():
            save(world.host, world.domain(), path, SaveOptions(compress=compress))
        return World(guests={})

    def run(world: World, path: Path) -> object:
        options = RestoreOptions(paused=paused)
        if by_command:
            way = FromCommand(("cat", str(path)))
            return restore_through(world.host, way, options, observe=world.observe)
        return restore(world.host, path, options, observe=world.observe)

    def judge(run: Run) -> None:
        assert run.holds(Guest.running())
        states = [guest.run_state.value for guest in run.world.guests.values()]
        if run.error is None:
            assert states == ["paused" if paused else "running"]
        elif run.past_return:
            assert not paused
            assert list(run.world.guests) == [2]
            assert "domain 2 may have run already: it is the guest now" in run.words
        else:
            assert run.stranded or run.rolled_back or run.untouched
            assert run.world.running() == []
            do_what_is_left(run)
            assert run.world.guests == {}

    kinds = {"paused": paused, "compressed": compress is not None, "by a command": by_command}
    name = ", ".join(["restore", *(kind for kind, holds in kinds.items() if holds)])
    return Operation(name, prepare, run, judge)


def saving_devices(older: bytes | None) -> Operation:
    def run(world: World, path: Path) -> object:
        return save_devices(world.host, world.domain(), path)

    def judge(run: Run) -> None:
        assert run.world.running() == [1]
        assert run.error is None or run.untouched
        state = device_state(run.world.guests[1].tick)
        assert run.file_is(state) or (run.error and run.file_is(older))

    name = f"save_devices, {older} before"
    return Operation(name, lambda path: with_guest(path, older), run, judge)


def with_guest(path: Path, older: bytes | None) -> World:
    if older:
        path.write_bytes(older)
    return World()


OPERATIONS = [
    *(suspending(after, older) for after in After for older in (None, OLDER)),
    *(suspending(after, OLDER, precopy=PrecopyOptions()) for after in After),
    suspending(After.CONTINUE, None, precopy=PrecopyOptions(), compact=True),
    suspending(After.DESTROY, OLDER, compress=9),
    suspending(After.CONTINUE, None, compress=0, precopy=PrecopyOptions()),
    *(
        suspending(After.CONTINUE, older, precopy=PrecopyOptions(), moments=True)
        for older in (None, OLDER)
    ),
    *(
        saving_paused(after, devices_run=devices_run)
        for after in After
        for devices_run in (True, False)
    ),
    *(restoring(paused=paused) for paused in (True, False)),
    restoring(paused=False, compress=9),
    *(
        restoring(paused=paused, compress=compress, by_command=True)
        for paused, compress in ((False, None), (True, 9))
    ),
    *(saving_devices(older) for older in (None, OLDER)),
]


ROWS = pytest.mark.parametrize(
    "operation",
    [
        pytest.param(each, id=each.name, marks=[] if each in OPERATIONS[1::2] else pytest.mark.long)
        for each in OPERATIONS
    ],
)
"""Each kind of operation is in either half, with what fails in it in each way."""


def count(operation: Operation, folder: Path) -> int:
    """Return how many calls the operation makes when none fails."""
    whole = operation.first(folder)
    assert whole.error is None
    assert whole.world.broken == []
    calls = len(whole.world.calls)
    operation.judge(whole)
    return calls


@pytest.mark.parametrize("how", SURVIVED, ids=lambda how: how.name)
@ROWS
def test_every_call_fails(operation, how, tmp_path):
    wrong = []
    for at in range(count(operation, tmp_path / "whole")):
        run = operation.first(tmp_path / str(at), Fault(at, how))
        name = run.world.calls[at]
        with Caught() as caught:
            judge(operation, run, how, name)
        if caught.error:
            wrong.append(f"call {at}, {name}: {run.error!r} {run.words}\n{caught.error!r}")
    assert not wrong, "\n\n".join(wrong)


def judge(operation: Operation, run: Run, how: How, name: str) -> None:
    """Judge one run: its error, guest and save file, then that another may follow."""
    if run.error is None:
        assert name in FAIL_BY_THEMSELVES
    elif how in CTRL_C:
        assert isinstance(run.error, KeyboardInterrupt)
    assert how is How.DEAD or not run.stranded
    left = [entry.name for entry in run.path.parent.iterdir() if entry != run.path]
    assert not left or name.startswith("os.")
    operation.judge(run)
    said = text(run.error) + text(run.error and run.error.__cause__)
    if re.search("could not (remove |destroy what )", said):
        do_what_is_left(run)
    if run.error and not run.past_return:
        second = operation.again(run.world, run.path)
        assert second.error is None
        operation.judge(second)
    assert run.world.broken == []
    assert run.world.clients == 0


@pytest.mark.parametrize("how", KILLED, ids=lambda how: how.name)
@ROWS
def test_process_is_killed_at_every_call(operation, how, tmp_path):
    wrong = []
    for at in range(count(operation, tmp_path / "whole")):
        with Caught() as caught:
            killed_at(operation, Fault(at, how), tmp_path / str(at))
        if caught.error:
            wrong.append(f"call {at}: {caught.error!r}")
    assert not wrong, "\n\n".join(wrong)


def killed_at(operation: Operation, fault: Fault, folder: Path) -> None:
    """Have a process killed in an operation, and see that it can be recovered."""
    folder.mkdir()
    world = operation.prepare(folder / "record")
    world.fault = fault
    assert world.outlive(lambda: operation.again(world, folder / "record"))
    judge_recovered(operation, world, folder / "record")


def judge_recovered(operation: Operation, world: World, path: Path) -> None:
    """Recover, and judge: one guest, or a complete save file; nothing else is left behind."""
    for done in recover(world.host):
        assert done.complete, done
    assert Journals(world.host.journals).found() == []
    assert [entry for entry in path.parent.iterdir() if entry != path] == []
    assert world.broken == []
    left = Run(world, path, None)
    guests = list(world.guests.values())
    assert not any(guest.logged or guest.enabled for guest in guests)
    stands = [guest for guest in guests if not guest.runs]
    if stands:  # only where that was wanted
        assert [guest.run_state.value for guest in guests] == ["paused"]
        assert "pause" in operation.name
    if not guests or (stands and not operation.of_paused):
        assert left.holds(guests[0] if guests else None)
    elif not operation.of_paused:
        assert len(world.running()) == 1
        assert left.file_is(None) or left.file_is(OLDER) or path.stat().st_size > len(OLDER)
    if guests and not stands and operation.verb in ("suspend", "save_devices"):
        assert operation.again(world, path).error is None


def test_size_of_the_table(tmp_path, capsys):
    sizes = {
        operation.name: count(operation, tmp_path / str(number)) * len(How)
        for number, operation in enumerate(OPERATIONS)
    }
    with capsys.disabled():
        sys.stdout.write(f"\nfault table: {sum(sizes.values())} rows\n")
    assert len(sizes) == len(OPERATIONS)
    assert min(sizes.values()) >= 8 * len(How)
