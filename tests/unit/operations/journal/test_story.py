"""What an operation's file tells: read again, it is what the operation knew of itself."""

import json
from pathlib import Path

import pytest

from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, XenqemuError
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About, Entry, Found
from xenqemu.operations.journal.steps import Commit, Step
from xenqemu.operations.journal.story import CERTAIN, COMMITTED, Registered, Role, Story
from xenqemu.operations.restore import restore
from xenqemu.operations.save import After, suspend
from xenqemu.operations.save_devices import save_devices

UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"
PATH = Path("/run/xenqemu/7.op")
RESUME, SETTLE, WATCH = (act(1, UUID) for act in (steps.resume, steps.settle, steps.watch))
RESTART, UNPAUSE, DESTROY = (act(1, UUID) for act in (steps.restart, steps.unpause, steps.destroy))
CLEAR = Step("clear", "clear it away", {"path": "/record", "temporary": ".record"})
QUESTION = steps.has_run(1, UUID)


def register(number, step, role=Role.UNDO):
    return {"register": number, "role": role.value, "step": step.line()}


def commit(*then, question=QUESTION, meaning="the record is the guest now"):
    return {"commit": Commit(question, meaning, then).line()}


def found(*lines):
    """Return lines as they come back from a file."""
    read = tuple(json.loads(json.dumps(lines)))
    return Found(PATH, About("save", 1, "sample", UUID, "/record"), read, 0, busy=False)


def told(*lines):
    return Story.of(found(*lines))


# Real operations.


def saving(after):
    return lambda world, path: suspend(world.host, 1, path, after=after)


def saving_nothing(world, path):
    world.guests[1].pages.pop(0xFEFFC)  # without that page it cannot be brought back
    suspend(world.host, 1, path)


def bringing_back(world, path):
    suspend(world.host, 1, path)
    restore(world.host, path)


OPERATIONS = {
    **{f"save, {after.value}": saving(after) for after in After},
    "save that fails": saving_nothing,
    "save and restore": bringing_back,
    "device save": lambda world, path: save_devices(world.host, 1, path),
}


@pytest.fixture
def files(monkeypatch):
    """What is written to each operation's file, as lines, but for the first."""
    written = {}
    really = Entry.write

    def write(entry, line):
        really(entry, line)
        written.setdefault(entry, []).append(line)

    monkeypatch.setattr(Entry, "write", write)
    return lambda: [lines[1:] for lines in written.values()]


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_of_a_file_was_written_is_a_story(name, files, tmp_path):
    """And the next line goes on from there."""
    try:
        OPERATIONS[name](World(), tmp_path / "record")
    except XenqemuError:
        assert name == "save that fails"
    for lines in files():
        meanwhile = Story()
        for number, line in enumerate(lines):
            assert told(*lines[:number]) == meanwhile
            meanwhile.take(line)
        whole = told(*lines)
        assert whole == meanwhile
        assert whole.numbers(Role.UNDO) == [] or name == "save, pause"
        assert whole.numbers(Role.FINISH) == []
    assert sum(map(len, files())) >= (1 if name == "device save" else 10)


def test_every_step_and_point_comes_back_from_its_line(files, tmp_path):
    bringing_back(World(), tmp_path / "record")
    lines = [line for file in files() for line in file]
    registered = [line["step"] for line in lines if "register" in line]
    points = [line["commit"] for line in lines if "commit" in line]
    assert {step["act"] for step in registered} >= {"clear", "resume", "settle", "restart", "sweep"}
    assert len(points) == 2
    for step in registered:
        assert Step.of(json.loads(json.dumps(step))).line() == step
    for point in points:
        assert json.dumps(Commit.of(json.loads(json.dumps(point))).line()) == json.dumps(point)


# Line by line.


def test_nothing_yet():
    story = told()
    assert story == Story()
    assert (story.phase, story.touched, story.meaning, story.only_watches) == ("", False, "", False)


def test_phase_is_the_last_that_began():
    assert told({"phase": "check"}, {"phase": "save"}).phase == "save"


def test_undos_come_in_reverse_and_what_is_done_comes_no_more():
    lines = [register(1, CLEAR, Role.LEAVING), register(2, RESUME), register(3, RESTART)]
    story = told(*lines)
    assert story.steps[2] == Registered(Role.UNDO, RESUME)
    assert story.numbers(Role.UNDO) == [3, 2]
    assert story.numbers(Role.LEAVING) == [1]
    assert told(*lines, {"done": 3}).numbers(Role.UNDO) == [2]
    assert story.next_number == told(*lines, {"done": 3}).next_number == 4


def test_step_that_is_done_twice():
    """Ctrl-C may come when it is noted, before the operation knows that it is."""
    assert told(register(1, RESUME), {"done": 1}, {"done": 1}).steps == {}


def test_guest_is_touched_by_what_has_to_be_undone():
    assert not told(register(1, CLEAR, Role.LEAVING)).touched
    assert told(register(1, RESUME)).touched
    assert told(register(1, RESUME), {"done": 1}).touched  # it was


def test_point_of_no_return():
    before = [register(1, CLEAR, Role.LEAVING), register(2, RESUME), commit(DESTROY, UNPAUSE)]
    story = told(*before)
    assert (story.committed, story.numbers(Role.UNDO), story.numbers(Role.FINISH)) == (
        *(False, [2], []),
    )
    assert story.commit == Commit(QUESTION, "the record is the guest now", (DESTROY, UNPAUSE))
    assert story.meaning == "the record is the guest now"
    story = told(*before, COMMITTED)
    assert story.committed
    assert (story.numbers(Role.UNDO), story.numbers(Role.LEAVING)) == ([], [1])
    finish = [story.steps[number].step for number in story.numbers(Role.FINISH)]
    assert finish == [DESTROY, UNPAUSE]  # in the order to do them
    assert told(*before, COMMITTED, {"done": 3}).numbers(Role.FINISH) == [4]


def test_point_of_no_return_that_nothing_follows():
    assert told(register(1, RESUME), commit(), COMMITTED).steps == {}
    assert told(register(1, RESUME), COMMITTED).steps == {}


def test_point_that_nobody_here_can_ask_about():
    assert told(commit(question=None)).commit == Commit(None, "the record is the guest now")


def test_doubt_lasts_until_it_is_resolved():
    lines = [register(1, RESUME), commit(DESTROY), {"doubt": "look at both"}]
    assert told(*lines).doubt == "look at both"
    assert told(*lines, CERTAIN) == told(*lines[:2])
    assert told(*lines, COMMITTED) == told(*lines[:2], COMMITTED)


@pytest.mark.parametrize(
    ("lines", "watches"),
    [
        ([], False),
        ([register(1, SETTLE)], True),
        ([register(1, RESUME), register(2, SETTLE)], False),
        ([register(1, RESUME), register(2, SETTLE), {"done": 1}], True),
        ([register(1, SETTLE), register(2, CLEAR, Role.LEAVING)], True),
        ([register(1, SETTLE), register(2, SETTLE)], True),
        ([register(1, SETTLE), {"done": 1}], False),
        ([register(1, WATCH)], False),
        ([register(1, CLEAR, Role.LEAVING)], False),
        ([commit(SETTLE), COMMITTED], False),
    ],
)
def test_operation_that_only_watches(lines, watches):
    assert told(*lines).only_watches is watches


# Damage.


@pytest.mark.parametrize(
    "line",
    [
        *({}, [], "line", 5, None, {"phase": 1}, {"phase": None}, {"committed": False}),
        *({"committed": 1.5}, {"doubt": 5}, {"done": "1"}, {"done": 1.0}, {"done": 2}, {"else": 1}),
        {"register": "1", "role": "undo", "step": RESUME.line()},
        {"register": 1, "role": "other", "step": RESUME.line()},
        {"register": 1, "role": [], "step": RESUME.line()},
        {"register": 1, "role": "undo"},
        *({"register": 1, "role": "undo", "step": step} for step in ({}, [], "resume", None)),
        register(1, Step("fly", "fly")),
        register(1, Step("resume", "resume the guest", {"domid": 1})),
        register(1, Step("resume", "resume the guest", {"domid": 1, "uuid": UUID, "more": 1})),
        *({"commit": point} for point in ({}, [], "point", None)),
        {"commit": {"question": QUESTION.line(), "meaning": ""}},
        {"commit": {"question": QUESTION.line(), "meaning": "", "then": 5}},
        {"commit": {"question": QUESTION.line(), "meaning": "", "then": ["destroy"]}},
        {"commit": {"question": "asked", "meaning": "", "then": []}},
        {"commit": {"question": {"act": "fly", "what": "", "arguments": {}}, "then": []}},
    ],
    ids=lambda line: json.dumps(line)[:60],
)
def test_line_that_no_operation_writes(line):
    with pytest.raises(HostError, match=f"^{PATH} is damaged: line 3: "):
        told({"phase": "check"}, line)
