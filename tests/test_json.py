"""The schema of what commands print with --json: it is one, and answers on files are as it says."""

import json
import re
from argparse import Namespace

import pytest
from jsonschema import Draft202012Validator

from tests.documents import ROOT
from tests.doubles.answers import fault, is_a, schema
from tests.doubles.system.commands import spawn
from xenqemu import errors
from xenqemu.cli import progress
from xenqemu.cli.failure import error_fields
from xenqemu.host.domain import RunState
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Phase, Way
from xenqemu.operations.outcome import How

GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.zst"))
DEFS = schema()["$defs"]


def test_the_schema_is_one():
    Draft202012Validator.check_schema(schema())
    used = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema())))
    assert used <= {*DEFS}


def test_each_definition_is_an_answer_or_part_of_one():
    text = (ROOT / "docs" / "json.md").read_text()
    told = set(re.findall(r"`([a-z -]+)`", text.partition("## Answers")[2].partition("```")[0]))
    parts = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema())))
    assert {*DEFS} == (told & {*DEFS}) | parts


def test_words_are_those_of_the_program():
    assert DEFS["phase"]["enum"] == [each.value for each in Phase]
    assert DEFS["way"]["enum"] == [each.value for each in Way]
    assert DEFS["outcome"]["properties"]["outcome"]["enum"] == [each.value for each in How]
    states = [*(each.value for each in RunState), None]
    assert DEFS["domain"]["properties"]["state"]["enum"] == states
    kinds = [each["properties"]["event"]["const"] for each in DEFS["event"]["oneOf"]]
    assert sorted(kinds) == sorted(each.value for each in Kind)


@pytest.mark.parametrize("file", GOLDEN, ids=lambda file: file.name)
def test_what_is_said_of_files_of_others_is_as_it_says(file):
    for command in ("verify", "inspect"):
        is_a(json.loads(spawn(command, "--json", file).stdout), command)


def test_what_is_said_of_a_bad_file_is_as_it_says(tmp_path):
    bad = tmp_path / "bad"
    bad.write_bytes(b"\0" * 100)
    cut = tmp_path / "cut"
    cut.write_bytes((ROOT / "tests" / "golden" / "vga.qevm.zst").read_bytes()[:1000])
    for command in ("verify", "inspect"):
        lines = spawn(command, "--json", bad, cut, tmp_path / "none").stdout.splitlines()
        assert len(lines) == 3
        for line in lines:
            is_a(json.loads(line), command)


@pytest.mark.parametrize(
    "event",
    [
        Event(Phase.CHECK, Kind.STARTED),
        Event(Phase.UNDO, Kind.STARTED, text="resume the guest"),
        Event(Phase.SAVE, Kind.PROGRESS, 1, 2),
        Event(Phase.SAVE, Kind.ITERATION, iteration=Iteration(1, 2, 8192, 0.5, 3, 0.1)),
        Event(Phase.RELEASE, Kind.LIVE, way=Way.MOMENT, downtime=0.01),
        Event(Phase.CHECK, Kind.NOTE, text="a note"),
        Event(Phase.CHECK, Kind.FAILED, text="why"),
        Event(Phase.CHECK, Kind.DONE),
    ],
    ids=lambda event: event.kind.value,
)
def test_events_are_as_it_says(event, capsys):
    progress.observer(Namespace(json=True))(event)
    is_a(json.loads(capsys.readouterr().out), "event")


def test_errors_are_as_it_says():
    rolled_back = errors.RolledBack("save failed", "publish")
    rolled_back.__cause__ = errors.BadRecord("END", 8, "0", "1")
    rolled_back.add_note("could not log it")
    for error in (rolled_back, errors.UsageError("no\nusage: …"), OSError("no"), SystemExit(1)):
        is_a({"version": 1, "error": error_fields(error)}, "failure")


def test_what_the_schema_does_not_have_is_found():
    answer = {"version": 1, "name": "web", "saved": []}
    assert fault(answer, "saved") == ""
    assert fault({**answer, "more": 1}, "saved")
    assert fault({**answer, "version": 2}, "saved")
    assert fault({"version": 1, "name": "web"}, "saved")
