"""The file that tells others how far an operation is: paced, whole, and nothing depends on it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal import progress_file
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About, progress_path
from xenqemu.operations.journal.progress_file import LIMIT, PACE, ProgressFile, progress_of

ABOUT = About("save", 7, "sample", "c52dca42-e6df-11f1-a061-0df29b9903a9", "/record")
ITERATION = Iteration(2, 256, 1 << 20, 0.5, 100, 0.25)


class Clock:
    """Both clocks, set by hand."""

    def __init__(self) -> None:
        self.now = 5000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress_file, "time", clock)
    return clock


@pytest.fixture
def journals(tmp_path):
    return Journals(tmp_path / "operations")


@pytest.fixture
def log(journals):
    with_log = journals.begin(ABOUT, lambda _other: False)
    yield with_log
    with_log.close()


def test_what_others_see(journals, log, clock):
    seen = []
    observe = ProgressFile(log, seen.append)

    def told(after: float, *event: object, **more: object):
        clock.now += after
        observe(Event(*event, **more))
        (found,) = journals.found()
        return progress_of(found)

    assert told(0, Phase.SAVE, Kind.STARTED).phase == "save"
    known = told(2, Phase.SAVE, Kind.PROGRESS, 1 << 20, 4 << 20)
    assert (known.at, known.began) == (5002.0, 5000.0)
    assert (known.done, known.total, known.rate, known.left) == (1 << 20, 4 << 20, 1 << 19, 6.0)
    assert (known.suspended, known.iteration) == (0.0, None)
    known = told(1, Phase.SAVE, Kind.ITERATION, iteration=ITERATION)
    assert (known.iteration, known.began, known.done, known.left) == (ITERATION, 5003.0, 0, None)
    assert told(1, Phase.QUIESCE, Kind.STARTED).suspended == 5004.0
    assert told(1, Phase.UNDO, Kind.STARTED).phase == "quiesce"
    assert told(1, Phase.RELEASE, Kind.DONE).suspended == 0.0
    assert [event.kind.value for event in seen] == [
        *("started", "progress", "iteration", "started", "started", "done")
    ]


def test_it_is_written_four_times_a_second_at_most(journals, log, clock):
    observe = ProgressFile(log, lambda _event: None)
    inodes = set()
    for number in range(100):
        clock.now += 0.01
        observe(Event(Phase.SAVE, Kind.PROGRESS, number, 100))
        inodes.add(progress_path(log.path).stat().st_ino)
        (found,) = journals.found()
        assert progress_of(found).at > clock.now - PACE
    assert json.loads(progress_path(log.path).read_text())["done"] == 75


def test_it_goes_with_its_log(log):
    ProgressFile(log, lambda _event: None)(Event(Phase.CHECK, Kind.STARTED))
    assert progress_path(log.path).exists()
    log.close()
    assert list(log.path.parent.glob("1.*")) == []


def test_where_it_cannot_be_written_a_note_says_so_once(log, clock):
    seen = []
    observe = ProgressFile(log, seen.append)
    progress_path(log.path).mkdir()
    for _ in range(3):
        clock.now += 1
        observe(Event(Phase.SAVE, Kind.PROGRESS, 1, 2))
    notes = [event.text for event in seen if event.kind is Kind.NOTE]
    draft = log.path.with_suffix(".draft")
    assert notes == [f"other processes cannot see the progress: {draft}: Is a directory"]
    assert len(seen) == 4
    progress_path(log.path).rmdir()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"since": 1.5}', "[" * LIMIT, "\xff"])
def test_what_is_no_progress_is_none(journals, log, text):
    progress_path(log.path).write_bytes(text.encode("latin-1"))
    (found,) = journals.found()
    assert progress_of(found) is None


def test_that_of_another_operation_is_none(journals, log):
    ProgressFile(log, lambda _event: None)(Event(Phase.CHECK, Kind.STARTED))
    file = progress_path(log.path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "since": 1.5}))
    (found,) = journals.found()
    assert progress_of(found) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_a_progress_or_none(tmp_path_factory, data):
    journals = Journals(tmp_path_factory.mktemp("any") / "operations")
    log = journals.begin(ABOUT, lambda _other: False)
    progress_path(log.path).write_bytes(data)
    (found,) = journals.found()
    assert progress_of(found) is None
    log.close()
