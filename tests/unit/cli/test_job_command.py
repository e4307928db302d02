"""How far operations are, and what there is on a host, as another terminal shows it."""

import json
import sys
import threading
import time

import pytest

from tests.doubles.in_memory.save_files import config, save_file
from xenqemu.cli import job_command
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Phase
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About, Log
from xenqemu.operations.journal.progress_file import ProgressFile

ABOUT = About("save", 3, "web", "c52dca42-e6df-11f1-a061-0df29b9903a9", "/there")
ITERATION = Iteration(2, 256, 1 << 20, 0.5, 128, 0.25)


@pytest.fixture
def log(folder):
    """A save of domain 3 that is running: by the process of the tests."""
    log = Journals(folder / "operations").begin(ABOUT, lambda _other: False)
    yield log
    log.close()


@pytest.fixture
def on(run, folder):
    return lambda *words: run("--host", f"lab:{folder}", *words)


def busy(log: Log) -> None:
    """Have the operation tell that it has written 3 of 12 MiB."""
    log.write({"phase": "save"})
    observe = ProgressFile(log, lambda _event: None)
    for event in (
        Event(Phase.QUIESCE, Kind.STARTED),
        Event(Phase.SAVE, Kind.STARTED),
        Event(Phase.SAVE, Kind.ITERATION, iteration=ITERATION),
    ):
        observe(event)
    time.sleep(0.3)
    observe(Event(Phase.SAVE, Kind.PROGRESS, 3 << 20, 12 << 20))


def test_nothing_is_running(on):
    assert on("job") == (0, "no operation is running\n", "")
    assert on("job", "--json").json == {"jobs": []}


def test_one_that_has_told_nothing_yet(on, log):
    first, *rest = on("job").out.splitlines()
    assert first.startswith("the save of domain 3 (web) to /there is running (process ")
    assert [line.split() for line in rest[:1]] == [["phase", "beginning"]]
    assert rest[1].startswith("  elapsed    ")
    assert len(rest) == 2


def test_how_far_it_is(on, log):
    busy(log)
    shown = dict(line.split(maxsplit=1) for line in on("job", "web").out.splitlines()[1:])
    assert shown["phase"] == "save"
    assert shown["done"] == "3.00 MiB of 12.0 MiB, 25 %"
    assert "MiB/s, ETA " in shown["rate"]
    assert shown["iteration"] == "3"
    assert shown["dirty"] == "rate 1.00 MiB/s"
    assert shown["expected"].startswith("downtime of 500 ms")
    assert shown["downtime"].endswith(" ms so far")
    (job,) = on("job", "--json", "3").json["jobs"]
    assert (job["verb"], job["name"], job["phase"], job["running"]) == ("save", "web", "save", True)
    assert (job["done"], job["total"], job["iteration"]) == (3 << 20, 12 << 20, 2)
    assert (job["dirty_rate"], job["expected_downtime"]) == (1 << 20, 0.5)
    assert 0.3 <= job["downtime"] <= job["elapsed"]
    assert 0 < job["left"] < 9 * job["elapsed"]
    assert on("job", "--json", "mail").json == {"jobs": []}


def test_one_that_was_left(on, folder, log):
    busy(log)
    log.unfinished = True
    log.close()
    shown = on("job").out
    assert "was left unfinished" in shown
    assert "the save of domain 3 (web) to /there was left unfinished: xenqemu recover web (" in (
        on("status").out
    )


def test_one_who_watches_sees_its_end(on, log, monkeypatch):
    monkeypatch.setattr(job_command, "AGAIN", 0.05)
    busy(log)
    ends = threading.Timer(0.5, log.close)
    ends.start()
    *lines, last = on("job", "--watch").out.splitlines()
    ends.join()
    assert last == "no operation is running"
    assert len(lines) >= 3
    assert all(line.startswith("save of web: save  [") for line in lines)


def test_a_terminal_is_redrawn(on, log, monkeypatch):
    monkeypatch.setattr(job_command, "AGAIN", 0.05)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    busy(log)
    ends = threading.Timer(0.3, log.close)
    ends.start()
    shown = on("job", "--watch").out
    ends.join()
    assert "\n\x1b[1A\x1b[Ksave of web".replace("\x1b[K", "\x1b[J") in shown


def test_a_program_that_watches_gets_a_line_each_time(on, log, monkeypatch):
    monkeypatch.setattr(job_command, "AGAIN", 0.05)
    ends = threading.Timer(0.3, log.close)
    ends.start()
    *lines, last = map(json.loads, on("job", "--watch", "--json").out.splitlines())
    ends.join()
    assert last == {"version": 1, "jobs": []}
    assert {each["name"] for line in lines for each in line["jobs"]} == {"web"}


def test_all_that_there_is(on, run, folder, ended, log):
    saved = folder / "save"
    saved.mkdir()
    (saved / "mail").write_bytes(save_file(config().with_name("mail")))
    (saved / "bad").write_bytes(b"no save file")
    (folder / "operations" / "9.op").write_text("damaged\n")
    heading, domain, job, damaged, bad, mail = on("status").out.splitlines()
    assert heading.split() == ["NAME", "ID", "MEM", "VCPUS", "STATE"]
    assert domain.split()[:2] == ["small", "3"]
    assert job.startswith("the save of domain 3 (web) to /there is running (process ")
    assert damaged.startswith(f"{folder}/operations/9.op is damaged")
    assert bad == f"bad is saved: {saved}/bad"
    assert mail.startswith(f"mail is saved: {saved}/mail, since 20")
    found = on("status", "--json").json
    assert [each["name"] for each in found["domains"]] == ["small"]
    assert [each["name"] for each in found["operations"]] == ["web"]
    assert [each["name"] for each in found["saved"]] == ["bad", "mail"]
    assert found["saved"][0]["saved"] is None
    assert found["left"] == []
    assert len(found["damaged"]) == 1


def test_an_empty_host(on):
    assert len(on("status").out.splitlines()) == 1
    found = on("status", "--json").json
    assert found == {"domains": [], "operations": [], "left": [], "damaged": [], "saved": []}
