"""What logs and metrics keep of operations: real ones at their end, and any by their values."""

import errno
import json
import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.in_memory.world import World
from xenqemu.errors import (
    Cancelled,
    HostError,
    OutcomeUnknown,
    PastReturn,
    RolledBack,
    Stranded,
)
from xenqemu.host.ended_operation import EndedOperation, Result
from xenqemu.operations.events import Kind, Phase
from xenqemu.operations.journal.outcome_error import result_of
from xenqemu.operations.options import After, SaveOptions
from xenqemu.operations.save import save
from xenqemu.settings import records
from xenqemu.settings.metrics_file import LIMIT, count
from xenqemu.settings.xenqemu_conf import Log, Metrics
from xenqemu.system import syslog
from xenqemu.system.syslog import Severity

DONE = EndedOperation(
    *("1700000000.500-42", "save", 3, "web", "c52dca42-e6df-11f1-a061-0df29b9903a9", "/there"),
    *(1700000000.5, 4.25, Result.DONE, "", 1 << 30, 0.25),
    (("check", 1700000000.5, 1.0), ("save", 1700000001.5, 3.0)),
)
FAILED = DONE.but(result=Result.ROLLED_BACK, error='no "space"\nleft', name="a b")


@pytest.fixture
def told(monkeypatch):
    lines = []
    monkeypatch.setattr(syslog, "log", lambda severity, text: lines.append((severity, text)))
    monkeypatch.setenv("SUDO_USER", "alice")
    return lines


def test_a_line_in_the_systems_log(told):
    records.keep(Log(), Metrics(), DONE)
    records.keep(Log(), Metrics(), FAILED)
    records.keep(Log(), Metrics(), DONE.but(result=Result.STRANDED, error="x"))
    records.keep(Log(), Metrics(), DONE.but(result=Result.CANCELLED))
    records.keep(Log(syslog=False), Metrics(), DONE)
    (info, first), (warning, second), (error, _), (notice, _) = told
    assert (info, warning, error, notice) == (
        *(Severity.INFO, Severity.WARNING),
        *(Severity.ERROR, Severity.NOTICE),
    )
    assert first == (
        "verb=save guest=web domid=3 uuid=c52dca42-e6df-11f1-a061-0df29b9903a9 file=/there "
        "result=done seconds=4.250 bytes=1073741824 downtime=0.250 user=alice id=1700000000.500-42"
    )
    assert ' guest="a b" ' in second
    assert second.endswith(r' error="no \"space\"\\nleft"')


def test_details_in_a_file(told, tmp_path):
    file = tmp_path / "operations.log"
    for ended in (DONE, FAILED):
        records.keep(Log(file=file), Metrics(), ended)
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["version"], first["verb"], first["result"]) == (1, "save", "done")
    assert (first["began"], first["size"]) == ("2023-11-14T22:13:20.500+00:00", 1 << 30)
    assert first["phases"][1] == {
        "phase": "save",
        "began": "2023-11-14T22:13:21.500+00:00",
        "seconds": 3.0,
    }
    assert second["error"] == FAILED.error
    assert file.stat().st_mode & 0o777 == 0o640


def test_all_places_are_tried_and_the_first_error_is_told(told, tmp_path):
    metrics = Metrics(tmp_path / "m.prom")
    with pytest.raises(OSError, match="none/log") as failed:
        records.keep(Log(file=tmp_path / "none" / "log"), metrics, DONE)
    assert failed.value.errno == errno.ENOENT
    assert len(told) == 1
    assert metrics.file.exists()


def test_metrics(tmp_path):
    file = tmp_path / "xenqemu.prom"
    count(file, DONE)
    count(file, DONE.but(seconds=1.5, downtime=0.5))
    count(file, FAILED)
    said = file.read_text()
    assert "# TYPE xenqemu_operations_total counter\n" in said
    assert 'xenqemu_operations_total{verb="save",result="done"} 2\n' in said
    assert 'xenqemu_operations_total{verb="save",result="rolled back"} 1\n' in said
    assert 'xenqemu_operation_seconds_total{verb="save"} 10\n' in said
    assert 'xenqemu_phase_seconds_total{verb="save",phase="save"} 9\n' in said
    assert 'xenqemu_memory_bytes_total{verb="save"} 3221225472\n' in said
    assert 'xenqemu_downtime_seconds{verb="save",guest="web"} 0.5\n' in said
    assert 'last_success_timestamp_seconds{verb="save",guest="web"} 1700000002\n' in said
    assert 'last_failure_timestamp_seconds{verb="save",guest="a b"} 1700000004.75\n' in said
    assert file.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in tmp_path.glob("*.prom")] == ["xenqemu.prom"]


def test_metrics_that_several_count_at_once(tmp_path):
    file = tmp_path / "xenqemu.prom"
    threads = [threading.Thread(target=count, args=(file, DONE)) for _ in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert 'xenqemu_operations_total{verb="save",result="done"} 20\n' in file.read_text()


@given(st.text(max_size=20))
def test_any_name_is_read_back(tmp_path_factory, name):
    file = tmp_path_factory.mktemp("metrics") / "m.prom"
    ended = DONE.but(name=name.encode(errors="replace").decode())
    for _ in range(2):
        count(file, ended)
    assert 'xenqemu_operations_total{verb="save",result="done"} 2\n' in file.read_text()


@pytest.mark.parametrize("text", ["node_load1 0.5\n", "x", "\xff", "#" * (LIMIT + 1)])
def test_what_is_none_of_ours_is_left_as_it_is(tmp_path, text):
    file = tmp_path / "m.prom"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(OSError, match="m.prom"):
        count(file, DONE)
    assert file.read_bytes() == text.encode("latin-1")


@pytest.fixture
def world(monkeypatch):
    world = World()
    world.ended = []
    monkeypatch.setattr(type(world.host), "records", staticmethod(world.ended.append))
    return world


def test_an_operation_that_is_done(world, tmp_path):
    save(world.host, world.domain(), tmp_path / "f", SaveOptions(after=After.CONTINUE))
    (ended,) = world.ended
    assert (ended.verb, ended.domid, ended.name) == ("save", 1, world.guests[1].config.name)
    assert (ended.file, ended.result, ended.error) == (str(tmp_path / "f"), Result.DONE, "")
    assert [name for name, *_ in ended.phases][:3] == ["check", "quiesce", "save"]
    assert 0 < ended.downtime <= ended.seconds
    assert ended.size > 0
    assert re.fullmatch(rf"[0-9]+\.[0-9]{{3}}-{os.getpid()}", ended.id)


def test_an_operation_that_fails(world, tmp_path):
    def observe(event):
        if (event.phase, event.kind) == (Phase.SAVE, Kind.STARTED):
            raise HostError("no way")

    with pytest.raises(RolledBack):
        save(world.host, world.domain(), tmp_path / "f", observe=observe)
    (ended,) = world.ended
    assert ended.result is Result.ROLLED_BACK
    assert "no way" in ended.error


def test_what_cannot_be_kept_is_a_note_and_nothing_else(world, tmp_path, monkeypatch):
    def full(_ended):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/log")

    monkeypatch.setattr(type(world.host), "records", staticmethod(full))
    events = []
    save(world.host, world.domain(), tmp_path / "f", observe=events.append)
    assert events[-1].kind is Kind.NOTE
    assert events[-1].text == (
        "the operation is not in all logs and metrics: /log: No space left on device"
    )


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (None, Result.DONE),
        (HostError("x"), Result.REFUSED),
        (OSError(5, "x"), Result.REFUSED),
        (Cancelled("x"), Result.CANCELLED),
        (caused(RolledBack("x", "save"), Cancelled("x")), Result.CANCELLED),
        (RolledBack("x", "save"), Result.ROLLED_BACK),
        (Stranded("x", "save"), Result.STRANDED),
        (PastReturn("x", "save"), Result.PAST_RETURN),
        (OutcomeUnknown("x", "save"), Result.IN_DOUBT),
        (KeyboardInterrupt(), Result.INTERRUPTED),
        (caused(KeyboardInterrupt(), RolledBack("x", "save")), Result.INTERRUPTED),
        (caused(KeyboardInterrupt(), Stranded("x", "save")), Result.STRANDED),
    ],
)
def test_how_an_operation_ended(failure, result):
    assert result_of(failure) is result
