"""What an operation's log tells: read again, it is what the operation knew of itself."""

import json
from pathlib import Path

import pytest

from tests.doubles.in_memory.world import World
from xenqemu.errors import HostError, XenqemuError
from xenqemu.formats.typed_json import plain, typed
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About, Found, Log
from xenqemu.operations.journal.log_state import LogState
from xenqemu.operations.journal.steps import Commit, Step
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.restore import restore
from xenqemu.operations.save import save
from xenqemu.operations.save_devices import save_devices
from xenqemu.system.staged_file import Traces

UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"
PATH = Path("/run/xenqemu/7.op")
RESUME, WITHDRAW, CONTINUE, UNPAUSE, DESTROY = (
    act(1, UUID)
    for act in (
        steps.Resume,
        steps.WithdrawSuspend,
        steps.ContinueDeviceModel,
        steps.Unpause,
        steps.Destroy,
    )
)
WITHDRAWN = steps.WithdrawSuspend(1, UUID, withdrawn=True)
REMOVE_DRAFT = steps.RemoveDraft(Traces("/record", ".record"))
QUESTION = steps.HasRun(1, UUID)
COMMITTED = {"committed": True}
CERTAIN = {"doubt": ""}


def undo(step):
    return {"undo": plain(step)}


def cleanup(step):
    return {"cleanup": plain(step)}


def commit(*then, question=QUESTION, meaning="the save file is the guest now"):
    return {"commit": plain(Commit(question, meaning, then))}


def found(*lines):
    """Return lines as they come back from a file."""
    read = tuple(json.loads(json.dumps(lines)))
    return Found(PATH, About("save", 1, "sample", UUID, "/record"), read, 0, running=False)


def told(*lines):
    return found(*lines).state()


# Real operations.


def saving(after):
    return lambda world, path: save(world.host, world.domain(1), path, SaveOptions(after=after))


def saving_nothing(world, path):
    world.guests[1].pages.pop(0xFEFFC)  # without that page it cannot be brought back
    save(world.host, world.domain(1), path)


def bringing_back(world, path):
    save(world.host, world.domain(1), path)
    restore(world.host, path)


OPERATIONS = {
    **{f"save, {after.value}": saving(after) for after in After},
    "save that fails": saving_nothing,
    "save and restore": bringing_back,
    "device save": lambda world, path: save_devices(world.host, world.domain(1), path),
}


@pytest.fixture
def files(monkeypatch):
    """What is written to each operation's file, as lines, but for the first."""
    written = {}
    really = Log.append

    def append(log, line):
        really(log, line)
        written.setdefault(log, []).append(line)

    monkeypatch.setattr(Log, "append", append)
    return lambda: [lines[1:] for lines in written.values()]


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_of_a_file_was_written_can_be_replayed(name, files, tmp_path):
    """And the next line continues from there."""
    try:
        OPERATIONS[name](World(), tmp_path / "record")
    except XenqemuError:
        assert name == "save that fails"
    for lines in files():
        meanwhile = LogState()
        for number, line in enumerate(lines):
            assert told(*lines[:number]) == meanwhile
            meanwhile.take(line)
        whole = told(*lines)
        assert whole == meanwhile
        assert whole.undos == {} or name == "save, pause"
        assert whole.following == {}
    assert sum(map(len, files())) >= (1 if name == "device save" else 10)


def test_every_step_and_point_comes_back_from_its_line(files, tmp_path):
    bringing_back(World(), tmp_path / "record")
    lines = [line for file in files() for line in file]
    registered = [line[role] for line in lines for role in ("undo", "cleanup") if role in line]
    points = [line["commit"] for line in lines if "commit" in line]
    names = {name for step in registered for name in step}
    assert names >= {
        "RemoveDraft",
        "Resume",
        "WithdrawSuspend",
        "ContinueDeviceModel",
        "DestroyIncomplete",
    }
    assert len(points) == 2
    for step in registered:
        assert plain(typed(Step, json.loads(json.dumps(step)))) == step
    for point in points:
        assert plain(typed(Commit, json.loads(json.dumps(point)))) == point


# Line by line.


def test_nothing_yet():
    state = told()
    assert state == LogState()
    assert (state.phase, state.touched, state.meaning, state.only_withdraws) == (
        "",
        False,
        "",
        False,
    )


def test_phase_is_the_last_that_began():
    assert told({"phase": "check"}, {"phase": "save"}).phase == "save"


def test_steps_are_numbered_as_they_come_and_what_is_done_comes_no_more():
    lines = [cleanup(REMOVE_DRAFT), undo(RESUME), undo(CONTINUE)]
    state = told(*lines)
    assert state.undos == {2: RESUME, 3: CONTINUE}
    assert state.cleanups == {1: REMOVE_DRAFT}
    assert state.steps == {1: REMOVE_DRAFT, 2: RESUME, 3: CONTINUE}
    assert told(*lines, {"done": 3}).undos == {2: RESUME}
    assert told(*lines, {"done": 3}, undo(UNPAUSE)).undos == {2: RESUME, 4: UNPAUSE}


def test_step_that_is_done_twice():
    """Ctrl-C may come when it is noted, before the operation knows that it is."""
    assert told(undo(RESUME), {"done": 1}, {"done": 1}).steps == {}


def test_guest_is_touched_by_what_has_to_be_undone():
    assert not told(cleanup(REMOVE_DRAFT)).touched
    assert told(undo(RESUME)).touched
    assert told(undo(RESUME), {"done": 1}).touched  # it was


def test_point_of_no_return():
    before = [cleanup(REMOVE_DRAFT), undo(RESUME), commit(DESTROY, UNPAUSE)]
    state = told(*before)
    assert (state.committed, state.undos, state.following) == (False, {2: RESUME}, {})
    assert state.commit == Commit(QUESTION, "the save file is the guest now", (DESTROY, UNPAUSE))
    assert state.meaning == "the save file is the guest now"
    state = told(*before, COMMITTED)
    assert state.committed
    assert (state.undos, state.cleanups) == ({}, {1: REMOVE_DRAFT})
    assert list(state.following.items()) == [(3, DESTROY), (4, UNPAUSE)]  # in the order to do them
    assert told(*before, COMMITTED, {"done": 3}).following == {4: UNPAUSE}


def test_point_of_no_return_that_nothing_follows():
    assert told(undo(RESUME), commit(), COMMITTED).steps == {}
    assert told(undo(RESUME), COMMITTED).steps == {}


def test_point_that_nobody_here_can_ask_about():
    assert told(commit(question=None)).commit == Commit(None, "the save file is the guest now")


def test_doubt_lasts_until_it_is_resolved():
    lines = [undo(RESUME), commit(DESTROY), {"doubt": "look at both"}]
    assert told(*lines).doubt == "look at both"
    assert told(*lines, CERTAIN) == told(*lines[:2])
    assert told(*lines, COMMITTED) == told(*lines[:2], COMMITTED)


@pytest.mark.parametrize(
    ("lines", "settles"),
    [
        ([], False),
        ([undo(WITHDRAW)], True),
        ([undo(RESUME), undo(WITHDRAW)], False),
        ([undo(RESUME), undo(WITHDRAW), {"done": 1}], True),
        ([undo(WITHDRAW), cleanup(REMOVE_DRAFT)], True),
        ([undo(WITHDRAW), undo(WITHDRAW)], True),
        ([undo(WITHDRAW), {"done": 1}], False),
        ([undo(WITHDRAWN)], False),
        ([cleanup(REMOVE_DRAFT)], False),
        ([commit(WITHDRAW), COMMITTED], False),
    ],
)
def test_operation_that_only_looks_out_for_a_late_guest(lines, settles):
    assert told(*lines).only_withdraws is settles


def test_images_are_those_of_all_steps_that_keep_disks():
    kept = [steps.KeepDisks(UUID, images) for images in (("/a", "/b"), ("/c",))]
    assert told(undo(RESUME), *map(undo, kept)).images == ["/a", "/b", "/c"]


# Damage.


@pytest.mark.parametrize(
    "line",
    [
        *({}, [], "line", 5, None, {"phase": 1}, {"phase": None}, {"committed": False}),
        *({"committed": 1.5}, {"doubt": 5}, {"done": "1"}, {"done": 1.0}, {"done": 2}, {"else": 1}),
        *({"done": 0}, {"done": -1}),
        *({"undo": step} for step in ({}, [], "Resume", None, ["Resume"], {"Fly": {}})),
        {"undo": plain(QUESTION)},
        {"cleanup": {"OnGuest": {"domid": 1, "uuid": UUID}}},
        *({"undo": {"Resume": values}} for values in ({}, [], "domid", None, {"domid": 1})),
        {"undo": {"Resume": {"domid": 1, "uuid": UUID, "more": 1}}},
        {"undo": {"Resume": {"domid": "1", "uuid": UUID}}},
        {"undo": {"Resume": {"domid": True, "uuid": UUID}}},
        {"undo": {"KeepDisks": {"uuid": UUID, "images": [1]}}},
        {"undo": {"RemoveDraft": {"traces": "/record"}}},
        *({"commit": point} for point in ({}, [], "point", None)),
        {"commit": {"question": plain(QUESTION), "meaning": ""}},
        {"commit": {"question": plain(QUESTION), "meaning": "", "then": 5}},
        {"commit": {"question": plain(QUESTION), "meaning": "", "then": ["Destroy"]}},
        {"commit": {"question": plain(QUESTION), "meaning": 5, "then": []}},
        {"commit": {"question": plain(RESUME), "meaning": "", "then": []}},
        {"commit": {"question": "asked", "meaning": "", "then": []}},
    ],
    ids=lambda line: json.dumps(line)[:60],
)
def test_line_that_no_operation_writes(line):
    with pytest.raises(HostError, match=f"^{PATH} is damaged: line 3: "):
        told({"phase": "check"}, line)
