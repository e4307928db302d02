"""Who works on which guest: claims by real processes, files cut at every byte, real kill -9."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from xenqemu.errors import HostError, HostTimeout
from xenqemu.operations.journal import log as ledger_module
from xenqemu.operations.journal.log import LATEST, LIMIT, About, Entry, Found, Ledger
from xenqemu.system.process import Process

ABOUT = About("save", 7, "sample", "c52dca42-e6df-11f1-a061-0df29b9903a9", "/record")
OTHER = About("restore", 0, "other", "11111111-e6df-11f1-a061-0df29b9903a9", "/other")
NOBODY = 65534
LINES = [{"phase": "check"}, {"step": {"what": "größer", "n": [1, 2]}}, {"committed": True}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "ledger"


@pytest.fixture
def ledger(folder: Path) -> Ledger:
    return Ledger(folder)


def never(_other: Found) -> bool:
    """Take nothing over."""
    return False


def begin(ledger: Ledger, about: About = ABOUT) -> Entry:
    return ledger.begin(about, never)


def left(ledger: Ledger, about: About = ABOUT, *lines: object) -> Found:
    """Have an operation end with something left to do."""
    entry = begin(ledger, about)
    for line in lines:
        entry.write(line)
    entry.unfinished = True
    entry.close()
    return next(found for found in ledger.found() if found.about == entry.about)


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


def test_operation_is_found_while_it_goes_on_and_gone_when_it_ends_well(ledger, folder):
    entry = begin(ledger)
    for line in LINES:
        entry.write(line)
    (found,) = ledger.found()
    assert (found.about, list(found.lines), found.busy) == (entry.about, LINES, True)
    assert found.path == folder / "1.op"
    assert found.size == found.path.stat().st_size
    entry.close()
    assert ledger.found() == []
    assert [file.name for file in folder.iterdir()] == ["lock"]
    entry.close()  # may be repeated


def test_unfinished_operation_stays(ledger):
    found = left(ledger, ABOUT, *LINES)
    assert (list(found.lines), found.busy) == (LINES, False)


def test_about_says_who_and_when(ledger):
    before = time.time()
    entry = begin(ledger)
    mine = Process.of(os.getpid())
    assert (entry.about.pid, entry.about.started) == (mine.pid, mine.started)
    assert before <= entry.about.since <= time.time()
    assert replace(entry.about, pid=0, started=0, since=0.0) == ABOUT
    at = time.strftime("%F %T", time.localtime(entry.about.since))
    assert entry.about.who == f"process {os.getpid()}, since {at}"
    entry.close()


def test_about_in_words():
    assert str(ABOUT) == "save of domain 7 (sample) to /record"
    assert str(OTHER) == "restore of /other"
    assert OTHER.title == "restore of /other"


def test_operations_are_numbered_as_they_come_and_found_in_that_order(ledger, folder):
    entries = [begin(ledger, About("save", n, f"g{n}", f"u{n}", "/f")) for n in range(1, 12)]
    assert [found.path.name for found in ledger.found()] == [f"{n}.op" for n in range(1, 12)]
    for entry in entries[:5]:
        entry.close()
    assert [found.about.domid for found in ledger.found()] == list(range(6, 12))
    entries.append(begin(ledger, OTHER))
    assert (folder / "12.op").exists()  # not a number between
    for entry in entries[5:]:
        entry.close()


def test_only_numbers_are_operations(ledger, folder):
    entry = begin(ledger)
    for name in ("new", "x.op", "-1.op", "2.cancel", "3.op~"):
        (folder / name).write_text("{")
    assert [found.about for found in ledger.found()] == [entry.about]
    entry.close()


def test_nothing_is_found_where_there_is_no_folder(ledger, folder):
    assert ledger.found() == []
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
def test_same_guest_is_claimed_once(ledger, other):
    assert ABOUT.concerns(other)
    assert other.concerns(ABOUT)
    entry = begin(ledger)
    with pytest.raises(HostError) as caught:
        begin(ledger, other)
    assert str(caught.value) == f"the {ABOUT} goes on ({entry.about.who})"
    entry.close()
    begin(ledger, other).close()


def test_other_guests_are_not_concerned(ledger):
    assert not ABOUT.concerns(OTHER)
    assert not OTHER.concerns(replace(ABOUT, domid=0))  # neither has an id yet
    nameless = replace(ABOUT, name=""), replace(OTHER, name="")
    assert not nameless[0].concerns(nameless[1])
    entries = begin(ledger), begin(ledger, OTHER)
    assert len(ledger.found()) == 2
    for entry in entries:
        entry.close()


@pytest.mark.parametrize(
    ("about", "who"), [(ABOUT, "sample"), (replace(ABOUT, name=""), "7"), (OTHER, "other")]
)
def test_operation_that_was_left_has_to_be_recovered_first(ledger, about, who):
    found = left(ledger, about)
    with pytest.raises(HostError) as caught:
        begin(ledger, about)
    words = f"the {about} was left unfinished ({found.about.who}): xenqemu recover {who}"
    assert str(caught.value) == words
    assert ledger.found() == [found]


def test_harmless_operation_is_taken_over(ledger):
    first = left(ledger, ABOUT, {"n": 1})
    second = left(ledger, OTHER, {"n": 2})
    asked = []
    entry = ledger.begin(
        replace(ABOUT, verb="migrate"), lambda found: bool(asked.append(found)) or True
    )
    assert asked == [first]  # nor is it asked of other guests
    assert [found.about for found in ledger.found()] == [second.about, entry.about]
    entry.close()


def test_nothing_is_taken_over_unless_all_is_harmless(ledger):
    both = [left(ledger, ABOUT), left(ledger, OTHER)]
    between = replace(ABOUT, uuid=OTHER.uuid)
    with pytest.raises(HostError, match="the restore of /other was left unfinished"):
        ledger.begin(between, lambda found: found == both[0])
    assert ledger.found() == both


def test_operation_that_goes_on_and_is_harmless_is_let_be(ledger):
    first = begin(ledger)
    second = ledger.begin(ABOUT, lambda found: found.about == first.about and found.busy)
    assert [found.about for found in ledger.found()] == [first.about, second.about]
    for entry in (first, second):
        entry.close()


def test_harmless_operation_that_somebody_recovers_is_not_taken_over(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "ADOPT_TIMEOUT", 0.05)
    found = left(ledger)
    adopted = []
    with pytest.raises(HostError, match="is being seen to by somebody else"):
        ledger.begin(ABOUT, lambda other: bool(adopted.append(ledger.adopt(other))) or True)
    assert [other.about for other in ledger.found()] == [found.about]
    adopted[0].close()


# Files that a killed process left.


def test_file_that_is_cut_anywhere_tells_whole_lines_and_goes_on_whole(ledger):
    found = left(ledger, ABOUT, *LINES)
    whole = found.path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) + 1):
        found.path.write_bytes(whole[:size])
        (cut,) = ledger.found()
        assert list(cut.lines) == LINES[: len(cut.lines)]
        assert cut.size == whole[:size].rindex(b"\n") + 1
        entry = ledger.adopt(cut)
        assert cut.path.stat().st_size == cut.size
        entry.write({"done": size})
        (more,) = ledger.found()
        assert list(more.lines) == [*cut.lines, {"done": size}]
        entry.unfinished = True
        entry.close()


def test_who_looks_sees_operations_that_go_on_or_none(ledger):
    """Not a first line that is half written, nor one that ended well as if it had been left."""

    def work(ready: Callable[[], None]) -> None:
        os.fsync = lambda _descriptor: None  # it is not the disk that is looked at
        ready()
        while True:
            entry = begin(ledger)
            entry.write(LINES[0])
            time.sleep(0.0005)
            entry.close()

    seen: list[Found] = []
    with child(work) as pid:
        while len(seen) < 300:
            seen += ledger.found()
    assert {(found.about.pid, found.busy) for found in seen} == {(pid, True)}


def test_process_that_is_killed_at_any_call_of_begin_leaves_no_half_file(ledger, folder):
    for at in range(20):
        pid = os.fork()
        if not pid:
            die_at(at)
            begin(ledger)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        found = ledger.found()
        assert all(not each.busy for each in found)
        for each in found:
            ledger.adopt(each).close()
        if not os.WIFSIGNALED(status):
            break
    assert at > 5  # that many calls there are
    begin(ledger).close()


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
def test_damaged_file_names_itself(ledger, folder, line):
    begin(ledger).close()
    (folder / "3.op").write_bytes(line + b"\n")
    with pytest.raises(HostError, match=f"^{folder}/3.op is damaged: "):
        ledger.found()


@pytest.mark.parametrize("since", [-1.0, 1e300, float("nan"), float("inf")])
def test_a_time_that_is_none(ledger, folder, since):
    begin(ledger).close()
    line = json.dumps(asdict(replace(ABOUT, since=since)))
    (folder / "3.op").write_text(f"{line}\n")
    with pytest.raises(HostError, match=r"3.op is damaged: it began at .*, expected 0 to 2534"):
        ledger.found()


def test_the_latest_time_can_be_told():
    assert "-" in replace(ABOUT, since=float(LATEST)).who


def test_damage_in_a_later_line(ledger):
    found = left(ledger, ABOUT, *LINES)
    found.path.write_bytes(found.path.read_bytes().replace(b'{"phase"', b'{"phase', 1))
    with pytest.raises(HostError, match="is damaged"):
        begin(ledger)


def test_file_beyond_its_bound(ledger):
    found = left(ledger)
    with found.path.open("ab") as file:
        file.write(b"{}\n" * (LIMIT // 3))
    with pytest.raises(HostError, match=f"is damaged: more than {LIMIT} bytes"):
        ledger.found()


def test_file_that_cannot_be_read(ledger, folder):
    begin(ledger).close()
    (folder / "2.op").mkdir()
    with pytest.raises(HostError, match=f"^cannot read {folder}/2.op: Is a directory$"):
        ledger.found()


# Writes that fail.


def test_line_that_does_not_fit_leaves_no_part_of_it(ledger):
    entry = begin(ledger)
    entry.write({"n": 1})
    (before,) = ledger.found()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before.size + 5, hard))
    try:
        with pytest.raises(HostError, match=os.strerror(errno.EFBIG)):
            entry.write({"a line": "of more than five bytes"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.found() == [before]
    entry.write({"n": 2})
    assert [line["n"] for line in ledger.found()[0].lines] == [1, 2]
    entry.close()


def test_line_that_cannot_be_synced_was_not_written(ledger, monkeypatch):
    entry = begin(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(HostError, match=os.strerror(errno.EIO)):
            entry.write({"n": 1})
    (found,) = ledger.found()
    assert (found.lines, found.size) == ((), found.path.stat().st_size)
    entry.close()


@pytest.mark.parametrize("call", ["fsync", "rename", "writev"])
def test_operation_that_cannot_be_noted_does_not_begin(ledger, folder, monkeypatch, call):
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(HostError, match=f"cannot keep a journal in {folder}: Input/output"):
            begin(ledger)
    assert [file.name for file in folder.iterdir()] == ["lock"]
    begin(ledger).close()


def refuse(*_arguments: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# Processes.


def test_process_that_lives_is_busy_and_one_that_was_killed_is_not(ledger):
    def work(ready: Callable[[], None]) -> None:
        begin(ledger).write(LINES[0])
        ready()

    with child(work) as pid:
        (found,) = ledger.found()
        assert found.busy
        assert found.about.pid == pid
        with pytest.raises(HostError, match=rf"goes on \(process {pid}, since "):
            begin(ledger)
        kill(pid)
        (found,) = ledger.found()
        assert (found.busy, list(found.lines)) == (False, LINES[:1])
        with pytest.raises(HostError, match=rf"was left unfinished \(process {pid}, since "):
            begin(ledger)
    ledger.adopt(found).close()
    begin(ledger).close()


def test_operation_of_another_thread_or_handle_is_busy_too(ledger, folder):
    entry = begin(ledger)
    assert Ledger(folder).found()[0].busy
    entry.close()


def test_of_many_that_begin_at_once_one_wins_and_the_others_name_it(ledger, folder):
    for _round in range(10):
        told = dict(contest(ledger, 6))
        winners = [pid for pid, says in told.items() if says == "won"]
        assert len(winners) == 1
        others = [says for says in told.values() if says != "won"]
        assert all(f"(process {winners[0]}, since" in says for says in others), others
        assert ledger.found() == []


def contest(ledger: Ledger, count: int) -> list[tuple[int, str]]:
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
            compete(ledger, say, over)
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


def compete(ledger: Ledger, say: int, over: int) -> None:
    try:
        entry = begin(ledger)
        os.write(say, b"won")
        os.read(over, 1)
        entry.close()
    except BaseException as error:  # noqa: BLE001 - the parent reads it
        os.write(say, str(error).encode())
    finally:
        os._exit(0)


def test_beginning_waits_for_others_who_begin(ledger, folder, monkeypatch):
    monkeypatch.setattr("xenqemu.system.private_folder.LOCK_TIMEOUT", 0.05)
    begin(ledger).close()
    with (folder / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(HostTimeout, match="/lock is held by another process for 0.05 s"):
            begin(ledger)
    begin(ledger).close()


# Taking over what was left.


def test_adopted_operation_is_busy_and_goes_on_where_it_was(ledger):
    found = left(ledger, ABOUT, LINES[0])
    entry = ledger.adopt(found)
    assert entry.about == found.about
    entry.write(LINES[2])
    (now,) = ledger.found()
    assert (now.busy, list(now.lines)) == (True, [LINES[0], LINES[2]])
    entry.close()
    assert ledger.found() == []


def test_only_one_adopts(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "ADOPT_TIMEOUT", 0.05)
    found = left(ledger)
    entry = ledger.adopt(found)
    with pytest.raises(HostError) as caught:
        ledger.adopt(found)
    assert str(caught.value) == f"the {ABOUT} is being seen to by somebody else"
    entry.close()
    with pytest.raises(HostError, match="was ended by somebody else"):
        ledger.adopt(found)


def test_adopting_waits_for_those_who_only_look(ledger):
    found = left(ledger)
    with found.path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        ledger.adopt(found).close()
        timer.join()


@pytest.mark.parametrize("again", [False, True])
def test_operation_that_ends_while_one_waits_to_adopt_it_is_not_adopted(ledger, monkeypatch, again):
    """Not even if a new operation has its number by then, whose file must stay as it is."""
    found = left(ledger)
    entry = ledger.adopt(found)
    new = []

    def end_meanwhile(_seconds: float, descriptor: int) -> bool:
        monkeypatch.undo()
        entry.close()
        if again:
            new.append(begin(ledger))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    monkeypatch.setattr(ledger_module, "locked_within", end_meanwhile)
    with pytest.raises(HostError, match="seen to by somebody else meanwhile"):
        ledger.adopt(found)
    assert [each.about for each in ledger.found()] == [each.about for each in new]
    for each in new:
        assert ledger.found()[0].path == found.path
        each.close()


def test_operation_that_somebody_else_has_worked_on_is_not_adopted(ledger):
    found = left(ledger, ABOUT, LINES[0])
    entry = ledger.adopt(found)
    entry.write(LINES[1])
    entry.unfinished = True
    entry.close()
    with pytest.raises(HostError, match="was seen to by somebody else meanwhile"):
        ledger.adopt(found)
    (now,) = ledger.found()
    assert list(now.lines) == LINES[:2]
    ledger.adopt(now).close()


def test_failed_adoption_holds_nothing(ledger, monkeypatch):
    found = left(ledger)
    monkeypatch.setattr(ledger_module, "locked_within", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ledger.adopt(found)
    monkeypatch.undo()
    ledger.adopt(found).close()


def interrupted(*_arguments: object) -> bool:
    raise KeyboardInterrupt


def test_operation_that_ends_while_one_looks_is_not_taken_for_left(ledger, monkeypatch):
    """What a file said before it was seen to be unlocked would be that of an operation at work."""
    entry = begin(ledger)
    really = ledger_module.locked_within

    def end_meanwhile(*arguments: object) -> bool:
        entry.close()
        return really(*arguments)

    monkeypatch.setattr(ledger_module, "locked_within", end_meanwhile)
    assert ledger.found() == []


def test_file_that_goes_away_while_one_looks(ledger, folder, monkeypatch):
    begin(ledger).close()
    monkeypatch.setattr(ledger, "_paths", lambda: [folder / "1.op"])
    assert ledger.found() == []


# Cancelling.


def test_cancel_is_seen_by_the_operation_it_is_of(ledger):
    entry, other = begin(ledger), begin(ledger, OTHER)
    assert not entry.cancelled
    ledger.cancel(ledger.found()[0])
    assert entry.cancelled
    assert not other.cancelled
    for each in (entry, other):
        each.close()


def test_cancel_is_of_no_later_operation(ledger, folder):
    entry = begin(ledger)
    (found,) = ledger.found()
    ledger.cancel(found)
    entry.close()
    assert not (folder / "1.cancel").exists()
    ledger.cancel(found)  # comes too late
    again = begin(ledger)
    assert ledger.found()[0].path == found.path
    assert not again.cancelled
    ledger.cancel(ledger.found()[0])
    assert again.cancelled
    again.close()
    assert [file.name for file in folder.iterdir()] == ["lock"]


def test_cancel_that_is_just_being_written_is_none_yet(ledger, folder):
    entry = begin(ledger)
    (folder / "1.cancel").touch()
    assert not entry.cancelled
    entry.close()


# The folder.


def test_folder_and_files_are_private(ledger, folder):
    before = os.umask(0)
    try:
        entry = begin(ledger)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    entry.close()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
def test_folder_that_others_may_write_is_refused(ledger, folder, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    with pytest.raises(HostError, match=f"^{folder} must be owned by you, and written by you"):
        begin(ledger)
    assert list(folder.iterdir()) == []


def test_folder_of_somebody_else_is_refused(ledger, folder, monkeypatch):
    folder.mkdir(parents=True)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(HostError, match="must be owned by you"):
        begin(ledger)


def test_folder_that_others_have_come_to_write_in_is_not_recovered_from(ledger, folder):
    found = left(ledger)
    folder.chmod(0o770)
    with pytest.raises(HostError, match="written by you alone"):
        ledger.adopt(found)
    folder.chmod(0o700)
    ledger.adopt(found).close()


def test_file_of_somebody_else_in_the_folder():
    """Of root's, where a user has a lab."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "ledger"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        (folder / "1.op").write_text("{}")
        (folder / "1.op").chmod(0o600)
        for act in (lambda: Ledger(folder).found(), lambda: begin(Ledger(folder))):
            assert as_nobody(act) == f"cannot read {folder}/1.op: Permission denied"


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
def test_folder_that_is_there_already_will_do(ledger, folder, mode):
    folder.mkdir(parents=True)
    folder.chmod(mode)
    begin(ledger).close()


def test_folder_that_is_none(ledger, folder):
    folder.parent.mkdir()
    folder.write_text("")
    with pytest.raises(HostError, match=f"^cannot keep a journal in {folder}: File exists$"):
        begin(ledger)


def test_folder_that_cannot_be_made():
    with pytest.raises(HostError, match="^cannot keep a journal in /proc/ledger: No such file"):
        begin(Ledger(Path("/proc/ledger")))


def test_folder_that_takes_no_files():
    with pytest.raises(HostError, match="^cannot keep a journal in /proc/self: "):
        begin(Ledger(Path("/proc/self")))


def test_lines_are_json_for_whoever_looks(ledger):
    found = left(ledger, ABOUT, *LINES)
    first, *rest = map(json.loads, found.path.read_text().splitlines())
    assert first["name"] == "sample"
    assert rest == LINES
