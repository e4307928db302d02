"""Lines, JSON, and progress on a terminal or for a program."""

import argparse
import io
import json
import os
import re
import string
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenqemu.cli import progress, terminal
from xenqemu.cli.parser import parser
from xenqemu.cli.progress_line import fitted
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Phase

TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{3}[+-][0-9]{2}:[0-9]{2}"

EVENTS = [
    Event(Phase.SAVE, Kind.STARTED),
    Event(Phase.SAVE, Kind.PROGRESS, 1 << 20, 4 << 20),
    Event(Phase.SAVE, Kind.DONE),
    Event(Phase.UNDO, Kind.FAILED, text="no\x1bway"),
]


def chosen(*words: str) -> argparse.Namespace:
    return parser().parse_args(["status", "web", *words])


def timeless(line: str | bytes) -> dict[str, Any]:
    """Return what an event is as JSON, without the version and the time."""
    found = json.loads(line)
    assert found.pop("version") == 1
    assert re.fullmatch(TIME, found.pop("time"))
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain text, 1 MiB …", "plain text, 1 MiB …"),
        ("Grüße, 客人", "Grüße, 客人"),
        ("\x1b[2J\r\n\t\x00\x7f", "\\x1b[2J\\r\\n\\t\\x00\\x7f"),
        ("\u202ereversed\u200b", "\\u202ereversed\\u200b"),
        ("no \udcff text", "no \\udcff text"),
        ('it\'s a "name"\\', 'it\'s a "name"\\'),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_lines_show_what_is_there(capsys, text, shown):
    assert terminal.printable(text) == shown
    terminal.line(text)
    assert capsys.readouterr().out == f"{shown}\n"


def test_json(capsys):
    terminal.as_json({"name": "a\x1b\udcff", "n": [1, None]})
    out = capsys.readouterr().out
    assert out.isascii()
    assert out.endswith("}\n")
    assert json.loads(out) == {"version": 1, "name": "a\x1b\udcff", "n": [1, None]}


def test_progress_as_lines_of_json(capsys):
    observe = progress.observer(chosen("--json"))
    for event in EVENTS:
        observe(event)
    assert [timeless(line) for line in capsys.readouterr().out.splitlines()] == [
        {"phase": "save", "event": "started"},
        {"phase": "save", "event": "progress", "done": 1 << 20, "total": 4 << 20},
        {"phase": "save", "event": "done"},
        {"phase": "undo", "event": "failed", "text": "no\x1bway"},
    ]


def test_only_notes_are_shown_without_a_terminal(capsys):
    observe = progress.observer(chosen())
    for event in (*EVENTS, Event(Phase.CHECK, Kind.NOTE, text="by the way")):
        observe(event)
    assert tuple(capsys.readouterr()) == ("", "xenqemu: by the way\n")


ITERATION = Event(Phase.SAVE, Kind.ITERATION, iteration=Iteration(2, 256, 1 << 20, 0.5, 100, 0.25))


def test_iterations_as_lines_of_json(capsys):
    progress.observer(chosen("--json"))(ITERATION)
    assert timeless(capsys.readouterr().out) == {
        "phase": "save",
        "event": "iteration",
        "number": 2,
        "pages": 256,
        "size": 1 << 20,
        "seconds": 0.5,
        "changed": 100,
        "look": 0.25,
        "rate": 2 << 20,
        "expected_downtime": 0.25 + 100 * 0.5 / 256,
    }


def test_iterations_on_a_terminal_stay(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress.observer(chosen())(ITERATION)
    assert terminal.getvalue() == (
        "\r\x1b[K"
        "iteration 2: 1.00 MiB at 2.00 MiB/s, 100 pages changed, downtime of 445 ms expected\n"
    )


def test_progress_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    observe = progress.observer(chosen())
    observe(Event(Phase.QUIESCE, Kind.STARTED))
    observe(EVENTS[0])
    now[0] = 102.0
    observe(EVENTS[1])
    observe(Event(Phase.SAVE, Kind.PROGRESS, 2 << 20, 4 << 20))  # too soon to be drawn again
    now[0] = 104.0
    observe(Event(Phase.SAVE, Kind.PROGRESS, 8 << 20, 8 << 20))
    observe(EVENTS[2])
    quarter = "save  [==      ]  25 %  downtime 2.0 s  ETA 6.0 s  512 KiB/s  1.00 MiB/4.00 MiB"
    full = f"save  [{'=' * 17}]  100 %  downtime 4.0 s  2.00 MiB/s  8.00 MiB/8.00 MiB"
    assert terminal.getvalue().split("\r\x1b[K") == [
        *("", "quiesce  downtime 0 ms", "save  downtime 0 ms", quarter, full, "")
    ]
    observe(EVENTS[3])
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("environment", ["dumb", "xterm"])
@pytest.mark.parametrize("words", [(), ("-q",), ("-T",)])
def test_where_no_line_is_drawn(monkeypatch, environment, words):
    monkeypatch.setenv("TERM", environment)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    observe = progress.observer(chosen(*words))
    for event in (*EVENTS, Event(Phase.CHECK, Kind.NOTE, text="by the way")):
        observe(event)
    drawn = terminal.getvalue().removesuffix("xenqemu: by the way\n")
    assert bool(drawn) == (environment == "xterm" and words == ())


def test_verbose_tells_each_phase(capsys):
    observe = progress.observer(chosen("-v"))
    for event in EVENTS:
        observe(event)
    assert capsys.readouterr().err == "save: done in 0 ms\nundo: failed in 0 ms: no\\x1bway\n"


PARTS = ["save", "45 %", "downtime 1.2 s", "ETA 3.0 s", "310 MiB/s", "512 MiB/1.00 GiB"]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (0, ""),
        (3, "sav"),
        (9, "save"),
        (10, "save  45 %"),
        (18, "save  45 %"),
        (19, "save  [==   ]  45 %"),
        (40, "save  45 %  downtime 1.2 s  ETA 3.0 s"),
        (60, "save  [===     ]  45 %  downtime 1.2 s  ETA 3.0 s  310 MiB/s"),
        (200, f"save  [{'=' * 13:<30}]  45 %  {'  '.join(PARTS[2:])}"),
    ],
)
def test_a_line_of_any_width(width, line):
    assert fitted(PARTS, width) == line


@given(st.integers(0, 300), st.lists(st.text(string.ascii_letters, min_size=1), min_size=1))
def test_a_line_is_never_too_wide(width, parts):
    parts[1:1] = ["45 %"]
    assert len(fitted(parts, width)) <= width


def test_lines_with_the_time(run, tmp_path):
    file = tmp_path / "none"
    done = run("verify", "-T", file)
    assert re.fullmatch(f"{TIME} xenqemu: {file}: No such file or directory\n", done.err)
    done = run("-T", "verify", file, "--quick")
    first, *_usage = done.err.splitlines()
    assert first.startswith("xenqemu: unrecognized arguments: --quick")


@pytest.mark.parametrize("full", [True, False])
def test_a_reader_that_does_not_read_holds_up_nothing(monkeypatch, full):
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "w") as writer:
        monkeypatch.setattr(sys, "stdout", writer)
        monkeypatch.setattr(progress, "PATIENCE", 0.05)
        if full:
            os.set_blocking(writing, False)
            with suppress(BlockingIOError):
                while True:
                    os.write(writing, b"x" * 4096)
            os.set_blocking(writing, True)
        observe = progress.observer(chosen("--json"))
        for event in EVENTS * 100:
            observe(event)
        os.set_blocking(reading, False)
        shown = reader.read(1 << 20)
        assert shown.count(b"{") == (0 if full else 4 * 100)
        observe(EVENTS[0])
        assert timeless(reader.read(1 << 20)) == {"phase": "save", "event": "started"}
