"""Who works on which guest: claims by real processes, files cut at every byte, real kill -9."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from xenqemu.errors import HostError, HostTimeout
from xenqemu.operations.journal import folder as folder_module
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import LATEST, LIMIT, MOST_NAME, About, Found, Log
from xenqemu.system.process import Process

ABOUT = About("save", 7, "sample", "c52dca42-e6df-11f1-a061-0df29b9903a9", "/record")
OTHER = About("restore", 0, "other", "11111111-e6df-11f1-a061-0df29b9903a9", "/other")
NOBODY = 65534
LINES = [
    {"phase": "größer"},
    {"undo": {"KeepDisks": {"uuid": "u", "images": ["/a", "/b"]}}},
    {"committed": True},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "operations"


@pytest.fixture
def journals(folder: Path) -> Journals:
    return Journals(folder)


def never(_other: Found) -> bool:
    """Take nothing over."""
    return False


def begin(journals: Journals, about: About = ABOUT) -> Log:
    return journals.begin(about, never)


def left(journals: Journals, about: About = ABOUT, *lines: object) -> Found:
    """Have an operation end with something left to do."""
    log = begin(journals, about)
    for line in lines:
        log.write(line)
    log.unfinished = True
    log.close()
    return next(found for found in journals.found() if found.about == log.about)


@contextmanager
def child(act: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """Run `act` in a process until it is killed; the block has its id, once it says it is ready."""
    hear, say = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            act(lambda: os.close(say))
            signal.pause()
        finally:
            os._exit(1)
    os.close(say)
    try:
        os.read(hear, 1)
        yield pid
    finally:
        os.close(hear)
        kill(pid)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # the test did it


# One operation, from its beginning to its end.


def test_operation_is_found_while_it_goes_on_and_gone_when_it_ends_well(journals, folder):
    log = begin(journals)
    for line in LINES:
        log.write(line)
    (found,) = journals.found()
    assert (found.about, list(found.lines), found.running) == (log.about, LINES, True)
    assert found.path == folder / "1.op"
    assert found.size == found.path.stat().st_size
    log.close()
    assert journals.found() == []
    assert [file.name for file in folder.iterdir()] == ["lock"]
    log.close()  # may be repeated


def test_unfinished_operation_stays(journals):
    found = left(journals, ABOUT, *LINES)
    assert (list(found.lines), found.running) == (LINES, False)


def test_about_says_who_and_when(journals):
    before = time.time()
    log = begin(journals)
    mine = Process.of(os.getpid())
    assert (log.about.pid, log.about.started) == (mine.pid, mine.started)
    assert before <= log.about.since <= time.time()
    assert replace(log.about, pid=0, started=0, since=0.0) == ABOUT
    at = time.strftime("%F %T", time.localtime(log.about.since))
    assert log.about.who == f"process {os.getpid()}, since {at}"
    log.close()


def test_about_in_words():
    assert str(ABOUT) == "save of domain 7 (sample) to /record"
    assert str(OTHER) == "restore of /other"
    assert OTHER.title == "restore of /other"


def test_operations_are_numbered_as_they_come_and_found_in_that_order(journals, folder):
    logs = [begin(journals, About("save", n, f"g{n}", f"u{n}", "/f")) for n in range(1, 12)]
    assert [found.path.name for found in journals.found()] == [f"{n}.op" for n in range(1, 12)]
    for log in logs[:5]:
        log.close()
    assert [found.about.domid for found in journals.found()] == list(range(6, 12))
    logs.append(begin(journals, OTHER))
    assert (folder / "12.op").exists()  # not a number between
    for log in logs[5:]:
        log.close()


def test_only_numbers_are_operations(journals, folder):
    log = begin(journals)
    for name in ("new", "x.op", "-1.op", "2.cancel", "3.op~"):
        (folder / name).write_text("{")
    assert [found.about for found in journals.found()] == [log.about]
    log.close()


def test_nothing_is_found_where_there_is_no_folder(journals, folder):
    assert journals.found() == []
    assert not folder.exists()


# Who else works on that guest.


@pytest.mark.parametrize(
    "other",
    [
        replace(OTHER, domid=7),
        replace(OTHER, name="sample"),
        replace(OTHER, uuid=ABOUT.uuid),
        replace(OTHER, uuid=ABOUT.uuid.upper()),
    ],
    ids=["domid", "name", "uuid", "uuid in capitals"],
)
def test_same_guest_is_claimed_once(journals, other):
    assert ABOUT.concerns(other)
    assert other.concerns(ABOUT)
    log = begin(journals)
    with pytest.raises(HostError) as caught:
        begin(journals, other)
    assert str(caught.value) == f"the {ABOUT} is running ({log.about.who})"
    log.close()
    begin(journals, other).close()


def test_other_guests_are_not_concerned(journals):
    assert not ABOUT.concerns(OTHER)
    assert not OTHER.concerns(replace(ABOUT, domid=0))  # neither has an id yet
    nameless = replace(ABOUT, name=""), replace(OTHER, name="")
    assert not nameless[0].concerns(nameless[1])
    logs = begin(journals), begin(journals, OTHER)
    assert len(journals.found()) == 2
    for log in logs:
        log.close()


@pytest.mark.parametrize(
    ("about", "who"), [(ABOUT, "sample"), (replace(ABOUT, name=""), "7"), (OTHER, "other")]
)
def test_operation_that_was_left_has_to_be_recovered_first(journals, about, who):
    found = left(journals, about)
    with pytest.raises(HostError) as caught:
        begin(journals, about)
    words = f"the {about} was left unfinished ({found.about.who}): xenqemu recover {who}"
    assert str(caught.value) == words
    assert journals.found() == [found]


def test_harmless_operation_is_taken_over(journals):
    first = left(journals, ABOUT, {"phase": "1"})
    second = left(journals, OTHER, {"phase": "2"})
    asked = []
    log = journals.begin(
        replace(ABOUT, verb="migrate"), lambda found: bool(asked.append(found)) or True
    )
    assert asked == [first]  # nor is it asked of other guests
    assert [found.about for found in journals.found()] == [second.about, log.about]
    log.close()


def test_nothing_is_taken_over_unless_all_is_harmless(journals):
    both = [left(journals, ABOUT), left(journals, OTHER)]
    between = replace(ABOUT, uuid=OTHER.uuid)
    with pytest.raises(HostError, match="the restore of /other was left unfinished"):
        journals.begin(between, lambda found: found == both[0])
    assert journals.found() == both


def test_operation_that_goes_on_and_is_harmless_is_let_be(journals):
    first = begin(journals)
    second = journals.begin(ABOUT, lambda found: found.about == first.about and found.running)
    assert [found.about for found in journals.found()] == [first.about, second.about]
    for log in (first, second):
        log.close()


def test_harmless_operation_that_somebody_recovers_is_not_taken_over(journals, monkeypatch):
    monkeypatch.setattr(folder_module, "ADOPT_TIMEOUT", 0.05)
    found = left(journals)
    adopted = []
    with pytest.raises(HostError, match="is being recovered by another process"):
        journals.begin(ABOUT, lambda other: bool(adopted.append(journals.adopt(other))) or True)
    assert [other.about for other in journals.found()] == [found.about]
    adopted[0].close()


# Files that a killed process left.


def test_file_that_is_cut_anywhere_tells_whole_lines_and_goes_on_whole(journals):
    found = left(journals, ABOUT, *LINES)
    whole = found.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) + 1):
        found.path.write_bytes(whole[:size])
        (cut,) = journals.found()
        assert list(cut.lines) == LINES[: len(cut.lines)]
        assert cut.size == whole[:size].rindex(b"\n") + 1
        log = journals.adopt(cut)
        assert cut.path.stat().st_size == cut.size
        log.write({"phase": str(size)})
        (more,) = journals.found()
        assert list(more.lines) == [*cut.lines, {"phase": str(size)}]
        log.unfinished = True
        log.close()


def test_who_looks_sees_operations_that_go_on_or_none(journals):
    """Not a first line that is half written, nor one that ended well as if it had been left."""

    def work(ready: Callable[[], None]) -> None:
        os.fsync = lambda _descriptor: None  # it is not the disk that is looked at
        ready()
        while True:
            log = begin(journals)
            log.write(LINES[0])
            time.sleep(0.0005)
            log.close()

    seen: list[Found] = []
    with child(work) as pid:
        while len(seen) < 300:
            seen += journals.found()
    assert {(found.about.pid, found.running) for found in seen} == {(pid, True)}


def test_process_that_is_killed_at_any_call_of_begin_leaves_no_half_file(journals, folder):
    for at in range(20):
        pid = os.fork()
        if not pid:
            die_at(at)
            begin(journals)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        found = journals.found()
        assert all(not each.running for each in found)
        for each in found:
            journals.adopt(each).close()
        if not os.WIFSIGNALED(status):
            break
    assert at > 5  # that many calls there are
    begin(journals).close()


def die_at(number: int) -> None:
    """Have this process killed at its call `number` to the system."""
    calls = iter(range(number + 1))

    def before(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def act(*arguments: object, **options: object) -> object:
            if next(calls, number) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return act

    for name in ("mkdir", "open", "writev", "fsync", "rename", "close", "ftruncate"):
        setattr(os, name, before(name))


@pytest.mark.parametrize(
    "line",
    [b"{", b"\xff", b"5", b"[]", b'{"verb": "save"}', b'{"verb": "save", "what": 1}', b""],
)
def test_damaged_file_names_itself_and_no_guest(journals, folder, line):
    log = begin(journals)
    (folder / "3.op").write_bytes(line + b"\n")
    (damaged,) = journals.damaged()
    assert str(damaged).startswith(f"{folder}/3.op is damaged: ")
    assert damaged.about is None
    assert [found.about for found in journals.found()] == [log.about]
    begin(journals, OTHER).close()
    log.close()


@pytest.mark.parametrize("since", [-1.0, 1e300, float("nan"), float("inf")])
def test_a_time_that_is_none(journals, folder, since):
    begin(journals).close()
    line = json.dumps(asdict(replace(ABOUT, since=since)))
    (folder / "3.op").write_text(f"{line}\n")
    (damaged,) = journals.damaged()
    assert damaged.reason == f"it began at {since}, expected 0 to {LATEST}"


def test_the_latest_time_can_be_told():
    assert "-" in replace(ABOUT, since=float(LATEST)).who


DAMAGED_LATER = {
    "no JSON": b'{"phase\n',
    "no line of a log": b'{"fly": 1}\n',
    "no step": b'{"undo": {"Fly": {}}}\n',
    "deep JSON": b"[" * 100_000 + b"\n",
    "too much": b'{"phase": "1"}\n' * (LIMIT // 14),
}


@pytest.mark.parametrize("rest", DAMAGED_LATER.values(), ids=DAMAGED_LATER)
def test_damage_in_a_later_line_concerns_the_guest_of_the_first_alone(journals, rest):
    found = left(journals, ABOUT, *LINES)
    with found.path.open("ab") as file:
        file.write(rest)
    (damaged,) = journals.damaged()
    assert (damaged.about, journals.found()) == (found.about, [])
    assert len(str(damaged)) < 1000
    with pytest.raises(HostError) as caught:
        begin(journals)
    whose = f"{found.path} (the {ABOUT}) is damaged: "
    assert str(caught.value).startswith(whose)
    assert "remove the file" in str(caught.value)
    begin(journals, OTHER).close()
    found.path.unlink()
    begin(journals).close()


def test_file_beyond_its_bound(journals):
    found = left(journals)
    with found.path.open("ab") as file:
        file.write(b"{}\n" * (LIMIT // 3))
    (damaged,) = journals.damaged()
    assert damaged.reason == f"more than {LIMIT} bytes"


PEER_NAMES = ["x" * 100_000, "ж" * 2026, "\U0001f600" * 1013]


@pytest.mark.parametrize("name", PEER_NAMES, ids=["letters", "Cyrillic", "faces"])
def test_name_longer_than_any_of_xl_is_refused_before_anything_is_written(journals, folder, name):
    assert len(name.encode()) > MOST_NAME
    with pytest.raises(HostError, match=rf"its name has \d+ bytes, expected at most {MOST_NAME}"):
        begin(journals, replace(ABOUT, name=name))
    assert not folder.exists()


@pytest.mark.parametrize("name", ["x" * MOST_NAME, "ж" * (MOST_NAME // 2), "\U0001f600" * 1012])
def test_longest_name_of_xl_is_read_back(journals, name):
    log = begin(journals, replace(ABOUT, name=name))
    log.write({"undo": {"Rename": {"domid": 1, "uuid": "u", "old": name, "new": name}}})
    log.write({"doubt": name})
    assert journals.found()[0].about.name == name
    assert len(str(log.about)) < 1000
    log.close()


@pytest.mark.parametrize("field", ["uuid", "file"])
def test_other_texts_have_bounds_too(journals, field):
    with pytest.raises(HostError, match=f"its {field} has 99999 bytes"):
        begin(journals, replace(ABOUT, **{field: "x" * 99_999}))


def test_no_line_is_written_that_readers_refuse_and_the_operation_can_still_end(journals):
    """Each line that is refused leaves the file as it was, and the undo of its act unregistered."""
    log = begin(journals)
    step = {"undo": {"KeepDisks": {"uuid": "u", "images": ["/disk" * 10_000]}}}
    with pytest.raises(HostError, match="would have over"):
        for _ in range(100):
            log.write(step)
    registered = log.state.registered
    assert 15 < registered < 100
    for number in range(registered):
        log.write({"done": number + 1})
    log.write({"committed": True})
    (found,) = journals.found()
    assert found.size < LIMIT
    assert found.state().committed
    log.close()


ODD_FILES = {
    "folder": lambda path: path.mkdir(),
    "FIFO": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "symbolic link": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", ODD_FILES.values(), ids=ODD_FILES)
def test_what_is_no_file_is_told_of_and_not_waited_for(journals, make):
    with tempfile.TemporaryDirectory() as place:
        journals = Journals(Path(place))
        make(Path(place) / "2.op")
        (damaged,) = journals.damaged()
        assert damaged.path.name == "2.op"
        begin(journals).close()


def test_a_number_that_is_none_of_ours_is_read_and_not_counted_on(journals, folder):
    begin(journals).close()
    (folder / "999999999.op").write_text("garbage\n")
    (folder / f"{'9' * 252}.op").write_text("garbage\n")
    (folder / "٣.op").write_text("garbage\n")
    log = begin(journals)
    assert log.path.name == "1.op"
    assert [damaged.path.name for damaged in journals.damaged()] == ["999999999.op"]
    log.close()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/etc/none")])
def test_draft_that_is_no_file_is_replaced(journals, folder, make):
    begin(journals).close()
    make(folder / "new")
    begin(journals).close()
    assert [file.name for file in folder.iterdir()] == ["lock"]


# Writes that fail.


def test_line_that_does_not_fit_leaves_no_part_of_it(journals):
    log = begin(journals)
    log.write({"phase": "1"})
    (before,) = journals.found()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before.size + 5, hard))
    try:
        with pytest.raises(HostError, match=os.strerror(errno.EFBIG)):
            log.write({"phase": "of more than five bytes"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert journals.found() == [before]
    log.write({"phase": "2"})
    assert [line["phase"] for line in journals.found()[0].lines] == ["1", "2"]
    log.close()


def test_line_that_cannot_be_synced_was_not_written(journals, monkeypatch):
    log = begin(journals)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(HostError, match=os.strerror(errno.EIO)):
            log.write({"phase": "1"})
    (found,) = journals.found()
    assert (found.lines, found.size) == ((), found.path.stat().st_size)
    log.close()


@pytest.mark.parametrize("call", ["fsync", "rename", "writev"])
def test_operation_that_cannot_be_noted_does_not_begin(journals, folder, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(HostError, match=f"cannot keep a journal in {folder}: Input/output"):
            begin(journals)
    assert [file.name for file in folder.iterdir()] == ["lock"]
    begin(journals).close()


def refuse(*_arguments: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# Processes.


def test_process_that_lives_is_busy_and_one_that_was_killed_is_not(journals):
    def work(ready: Callable[[], None]) -> None:
        begin(journals).write(LINES[0])
        ready()

    with child(work) as pid:
        (found,) = journals.found()
        assert found.running
        assert found.about.pid == pid
        with pytest.raises(HostError, match=rf"is running \(process {pid}, since "):
            begin(journals)
        kill(pid)
        (found,) = journals.found()
        assert (found.running, list(found.lines)) == (False, LINES[:1])
        with pytest.raises(HostError, match=rf"was left unfinished \(process {pid}, since "):
            begin(journals)
    journals.adopt(found).close()
    begin(journals).close()


def test_operation_of_another_thread_or_handle_is_busy_too(journals, folder):
    log = begin(journals)
    assert Journals(folder).found()[0].running
    log.close()


def test_of_many_that_begin_at_once_one_wins_and_the_others_name_it(journals, folder):
    for _round in range(10):
        told = dict(contest(journals, 6))
        winners = [pid for pid, says in told.items() if says == "won"]
        assert len(winners) == 1
        others = [says for says in told.values() if says != "won"]
        assert all(f"(process {winners[0]}, since" in says for says in others), others
        assert journals.found() == []


def contest(journals: Journals, count: int) -> list[tuple[int, str]]:
    """Have processes begin on one guest at the same moment; return what each says."""
    start, go = os.pipe()  # all wait for its end
    over, end = os.pipe()  # the winner stays until all are done
    pipes = {}
    for _ in range(count):
        hear, say = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(go)
            os.close(end)
            os.read(start, 1)
            compete(journals, say, over)
        os.close(say)
        pipes[pid] = hear
    os.close(go)
    told = [(pid, os.read(hear, 4096).decode()) for pid, hear in pipes.items()]
    os.close(end)
    for pid, hear in pipes.items():
        os.waitpid(pid, 0)
        os.close(hear)
    os.close(start)
    os.close(over)
    return told


def compete(journals: Journals, say: int, over: int) -> None:
    try:
        log = begin(journals)
        os.write(say, b"won")
        os.read(over, 1)
        log.close()
    except BaseException as error:  # noqa: BLE001 - the parent reads it
        os.write(say, str(error).encode())
    finally:
        os._exit(0)


def test_beginning_waits_for_others_who_begin(journals, folder, monkeypatch):
    monkeypatch.setattr("xenqemu.system.private_folder.LOCK_TIMEOUT", 0.05)
    begin(journals).close()
    with (folder / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HostTimeout, match="/lock is locked by another process for 0.05 s"):
            begin(journals)
    begin(journals).close()


# Taking over what was left.


def test_adopted_operation_is_busy_and_goes_on_where_it_was(journals):
    found = left(journals, ABOUT, LINES[0])
    log = journals.adopt(found)
    assert log.about == found.about
    log.write(LINES[2])
    (now,) = journals.found()
    assert (now.running, list(now.lines)) == (True, [LINES[0], LINES[2]])
    log.close()
    assert journals.found() == []


def test_only_one_adopts(journals, monkeypatch):
    monkeypatch.setattr(folder_module, "ADOPT_TIMEOUT", 0.05)
    found = left(journals)
    log = journals.adopt(found)
    with pytest.raises(HostError) as caught:
        journals.adopt(found)
    assert str(caught.value) == f"the {ABOUT} is being recovered by another process"
    log.close()
    with pytest.raises(HostError, match="was recovered by another process"):
        journals.adopt(found)


def test_adopting_waits_for_those_who_only_look(journals):
    found = left(journals)
    with found.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        journals.adopt(found).close()
        timer.join()


@pytest.mark.parametrize("again", [False, True])
def test_operation_that_ends_while_one_waits_for_it_is_not_adopted(journals, monkeypatch, again):
    """Not even if a new operation has its number by then, whose file must stay as it is."""
    found = left(journals)
    log = journals.adopt(found)
    new = []

    def end_meanwhile(_seconds: float, descriptor: int) -> bool:
        monkeypatch.undo()
        log.close()
        if again:
            new.append(begin(journals))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    monkeypatch.setattr(folder_module, "locked_within", end_meanwhile)
    with pytest.raises(HostError, match="was changed by another process meanwhile"):
        journals.adopt(found)
    assert [each.about for each in journals.found()] == [each.about for each in new]
    for each in new:
        assert journals.found()[0].path == found.path
        each.close()


def test_operation_that_somebody_else_has_worked_on_is_not_adopted(journals):
    found = left(journals, ABOUT, LINES[0])
    log = journals.adopt(found)
    log.write(LINES[1])
    log.unfinished = True
    log.close()
    with pytest.raises(HostError, match="was changed by another process meanwhile"):
        journals.adopt(found)
    (now,) = journals.found()
    assert list(now.lines) == LINES[:2]
    journals.adopt(now).close()


def test_failed_adoption_holds_nothing(journals, monkeypatch):
    found = left(journals)
    monkeypatch.setattr(folder_module, "locked_within", interrupted)
    with pytest.raises(KeyboardInterrupt):
        journals.adopt(found)
    monkeypatch.undo()
    journals.adopt(found).close()


def interrupted(*_arguments: object) -> bool:
    raise KeyboardInterrupt


def test_operation_that_ends_while_one_looks_is_not_taken_for_left(journals, monkeypatch):
    """What a file said before it was seen to be unlocked would be that of an operation at work."""
    log = begin(journals)
    really = folder_module.locked_within

    def end_meanwhile(*arguments: object) -> bool:
        log.close()
        return really(*arguments)

    monkeypatch.setattr(folder_module, "locked_within", end_meanwhile)
    assert journals.found() == []


def test_file_that_goes_away_while_one_looks(journals, folder, monkeypatch):
    begin(journals).close()
    monkeypatch.setattr(Path, "glob", lambda *_: [folder / "1.op"])
    assert journals.found() == []


# Cancelling.


def test_cancel_is_seen_by_the_operation_it_is_of(journals):
    log, other = begin(journals), begin(journals, OTHER)
    assert not log.cancelled
    journals.cancel(journals.found()[0])
    assert log.cancelled
    assert not other.cancelled
    for each in (log, other):
        each.close()


def test_cancel_is_of_no_later_operation(journals, folder):
    log = begin(journals)
    (found,) = journals.found()
    journals.cancel(found)
    log.close()
    assert not (folder / "1.cancel").exists()
    journals.cancel(found)  # comes too late
    again = begin(journals)
    assert journals.found()[0].path == found.path
    assert not again.cancelled
    journals.cancel(journals.found()[0])
    assert again.cancelled
    again.close()
    assert [file.name for file in folder.iterdir()] == ["lock"]


def test_cancel_that_is_just_being_written_is_none_yet(journals, folder):
    log = begin(journals)
    (folder / "1.cancel").touch()
    assert not log.cancelled
    log.close()


# The folder.


def test_folder_and_files_are_private(journals, folder):
    before = os.umask(0)
    try:
        log = begin(journals)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    log.close()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_folder_that_others_may_write_is_refused(journals, folder, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(HostError, match=f"^{folder} must be owned by you and writable"):
        begin(journals)
    assert list(folder.iterdir()) == []


def test_folder_of_somebody_else_is_refused(journals, folder, monkeypatch):
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HostError, match="must be owned by you"):
        begin(journals)


def test_folder_that_others_have_come_to_write_in_is_not_recovered_from(journals, folder):
    found = left(journals)
    folder.chmod(0o770)
    with pytest.raises(HostError, match="writable by nobody else"):
        journals.adopt(found)
    folder.chmod(0o700)
    journals.adopt(found).close()


def test_file_of_somebody_else_in_the_folder():
    """Of root's, where a user has a lab."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "journals"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        (folder / "1.op").write_text("{}")
        (folder / "1.op").chmod(0o600)
        assert as_nobody(lambda: _raise_first(Journals(folder))) == (
            f"{folder}/1.op is damaged: Permission denied; "
            "see that the guest runs, then remove the file"
        )
        assert as_nobody(lambda: begin(Journals(folder)).close()) == ""


def _raise_first(journals: Journals) -> None:
    raise HostError(str(journals.damaged()[0]))


def as_nobody(act: Callable[[], object]) -> str:
    """Return what `act` fails with where somebody does it who is not root."""
    hear, say = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
        except HostError as error:
            os.write(say, str(error).encode())
        finally:
            os._exit(0)
    os.close(say)
    os.waitpid(pid, 0)
    with open(hear) as words:
        return words.read()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_folder_that_is_there_already_will_do(journals, folder, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    begin(journals).close()


def test_folder_that_is_none(journals, folder):
    folder.parent.mkdir()
    folder.write_text("")
    with pytest.raises(HostError, match=f"^cannot keep a journal in {folder}: File exists$"):
        begin(journals)


def test_folder_that_cannot_be_made():
    with pytest.raises(HostError, match="^cannot keep a journal in /proc/journals: No such file"):
        begin(Journals(Path("/proc/journals")))


def test_folder_that_takes_no_files():
    with pytest.raises(HostError, match="^cannot keep a journal in /proc/self: "):
        begin(Journals(Path("/proc/self")))


def test_lines_are_json_for_whoever_looks(journals):
    found = left(journals, ABOUT, *LINES)
    first, *rest = map(json.loads, found.path.read_text().splitlines())
    assert first["name"] == "sample"
    assert rest == LINES
