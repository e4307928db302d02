"""Lines, JSON, and progress on a terminal or for a program."""

import io
import json
import os
import sys
from contextlib import suppress

import pytest

from xenqemu.cli import progress, terminal
from xenqemu.host.precopy import Iteration
from xenqemu.operations.events import Event, Kind, Phase

EVENTS = [
    Event(Phase.SAVE, Kind.STARTED),
    Event(Phase.SAVE, Kind.PROGRESS, 1 << 20, 4 << 20),
    Event(Phase.SAVE, Kind.DONE),
    Event(Phase.UNDO, Kind.FAILED, text="no\x1bway"),
]


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
    assert json.loads(out) == {"name": "a\x1b\udcff", "n": [1, None]}


def test_progress_as_lines_of_json(capsys):
    observe = progress.observer(as_lines_of_json=True)
    for event in EVENTS:
        observe(event)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"phase": "save", "event": "started"},
        {"phase": "save", "event": "progress", "done": 1 << 20, "total": 4 << 20},
        {"phase": "save", "event": "done"},
        {"phase": "undo", "event": "failed", "text": "no\x1bway"},
    ]


def test_only_notes_are_shown_without_a_terminal(capsys):
    observe = progress.observer(as_lines_of_json=False)
    for event in (*EVENTS, Event(Phase.CHECK, Kind.NOTE, text="by the way")):
        observe(event)
    assert tuple(capsys.readouterr()) == ("", "xenqemu: by the way\n")


ITERATION = Event(Phase.SAVE, Kind.ITERATION, iteration=Iteration(2, 256, 1 << 20, 0.5, 100, 0.25))


def test_iterations_as_lines_of_json(capsys):
    progress.observer(as_lines_of_json=True)(ITERATION)
    assert json.loads(capsys.readouterr().out) == {
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
    progress.observer(as_lines_of_json=False)(ITERATION)
    assert terminal.getvalue() == (
        "\r\x1b[Kiteration 2: 1.0 MiB at 2 MiB/s, 100 pages changed, downtime of 0.45 s expected\n"
    )


def test_the_time_that_a_guest_stands_still(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen = []
    watch = progress.Stopwatch(seen.append)
    story = [
        (10.0, Event(Phase.SAVE, Kind.STARTED)),
        (12.0, Event(Phase.QUIESCE, Kind.STARTED)),
        (12.5, Event(Phase.QUIESCE, Kind.DONE)),
        (13.0, Event(Phase.RELEASE, Kind.STARTED)),
        (13.5, Event(Phase.RELEASE, Kind.DONE)),
        (20.0, Event(Phase.PUBLISH, Kind.DONE)),
    ]
    for now[0], event in story:
        watch(event)
    assert watch.seconds == 1.5
    assert seen == [event for _, event in story]


def test_progress_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    observe = progress.observer(as_lines_of_json=False)
    observe(EVENTS[0])
    now[0] = 102.0
    observe(EVENTS[1])
    observe(Event(Phase.SAVE, Kind.PROGRESS, 2 << 20, 4 << 20))  # too soon to be drawn again
    now[0] = 104.0
    observe(Event(Phase.SAVE, Kind.PROGRESS, 8 << 20, 0))
    observe(EVENTS[2])
    assert terminal.getvalue().split("\r\x1b[K") == [
        *("", "save …", "save 25 %, 0 MiB/s", "save 838860800 %, 2 MiB/s", "")
    ]
    observe(EVENTS[3])
    assert terminal.getvalue().endswith("\r\x1b[K")


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
        observe = progress.observer(as_lines_of_json=True)
        for event in EVENTS * 100:
            observe(event)
        os.set_blocking(reading, False)
        shown = reader.read(1 << 20)
        assert shown.count(b"{") == (0 if full else 4 * 100)
        observe(EVENTS[0])
        assert reader.read(1 << 20) == b'{"phase": "save", "event": "started"}\n'
