"""Exit codes and last words: each error's own, none where the reader left, 130 for signals."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.doubles.in_memory.save_files import config, save_file
from tests.doubles.system.commands import PROGRAM, spawn
from xenqemu import errors
from xenqemu.cli import verify_command
from xenqemu.errors import XenqemuError

KINDS = [getattr(errors, name) for name in errors.__all__]


def make(kind: type[XenqemuError]) -> XenqemuError:
    if issubclass(kind, errors.FormatError):
        return kind("record", 16, "this", "that")
    if issubclass(kind, errors.OperationError):
        return kind("went wrong", "save")
    if kind is errors.Refused:
        return kind("it went wrong", [errors.HostError("this")])
    return kind("went wrong")


@pytest.mark.parametrize("kind", KINDS)
def test_each_error_has_its_exit_code(run, monkeypatch, kind):
    error = make(kind)

    def fails(_chosen):
        raise error

    monkeypatch.setattr(verify_command, "run", fails)
    lines = "\n".join([str(error), *errors.notes_of(error)])
    assert run("verify", "x") == (kind.exit_code, "", f"xenqemu: {lines}\n")


def test_several_reasons_have_a_line_each_and_the_code_of_the_first(run, monkeypatch):
    reasons = [errors.BadRecord("record", 16, "this", "that"), errors.HostError("in two\nlines")]

    def fails(_chosen):
        raise errors.Refused("it cannot be", reasons)

    monkeypatch.setattr(verify_command, "run", fails)
    assert run("verify", "x") == (
        2,
        "",
        (
            "xenqemu: it cannot be, for 2 reasons\n"
            "1. record at offset 0x10: expected this, got that\n"
            "2. in two\\nlines\n"
        ),
    )


def test_errors_of_the_system(run, monkeypatch):
    def fails(_chosen):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(verify_command, "run", fails)
    assert run("verify", "x") == (1, "", "xenqemu: [Errno 28] No space left on device\n")


def test_an_interrupt_tells_what_it_left(run, monkeypatch):
    def interrupted(_chosen):
        error = KeyboardInterrupt()
        error.add_note("the guest is as it was")
        raise error

    monkeypatch.setattr(verify_command, "run", interrupted)
    assert run("verify", "x") == (130, "", "xenqemu: interrupted; the guest is as it was\n")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.RolledBack, 130),
        (errors.Stranded, 11),
        (errors.PastReturn, 12),
        (errors.OutcomeUnknown, 13),
    ],
)
def test_an_interrupt_that_left_the_guest_otherwise_has_that_exit_code(
    run, monkeypatch, kind, code
):
    def interrupted(_chosen):
        raise KeyboardInterrupt from make(kind)

    monkeypatch.setattr(verify_command, "run", interrupted)
    assert run("verify", "x") == (code, "", "xenqemu: interrupted\n")


def test_errors_do_not_steer_the_terminal(run, tmp_path):
    name = tmp_path / "a\x1b]0;title\x07"
    done = run("verify", name)
    assert (done.code, done.out) == (1, "")
    assert done.err == f"xenqemu: {tmp_path}/a\\x1b]0;title\\x07: No such file or directory\n"


def test_a_name_that_the_terminal_cannot_show(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(save_file(config().with_name("домен")))
    done = spawn("verify", file, environment={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"guest \u0434\u043e\u043c\u0435\u043d;" in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "there is no 'fly'"),
        (("sav", "one", "file"), "there is no 'sav'; did you mean save?"),
        (("lab", "lst"), "there is no 'lst'; did you mean list?"),
        (("save", "one"), "the following arguments are required: FILE"),
        (("save", "-c", "-p", "one", "file"), "not allowed with argument -c"),
        (
            ("save", "--step-timeout", "0", "one", "file"),
            "--step-timeout: '0' is no time above 0",
        ),
        (("save", "--step-timeout", "nan", "one", "file"), "'nan' is no time of 86400 s at most"),
        (("save", "--step-timeout", "25h", "one", "file"), "'25h' is no time of 86400 s at most"),
        (("save", "--complaint", "one", "file"), "--complaint; did you mean --compact?"),
        (("restore", "cfg", "file", "more"), "unrecognized arguments: more"),
        (("verify",), "the following arguments are required: FILE"),
        (("verify", "--fast", "x"), "unrecognized arguments: --fast"),
        (("lab",), "the following arguments are required: ACT"),
        (("lab", "create"), "the following arguments are required: CFG"),
        (("devices", "save", "x"), "the following arguments are required: FILE"),
        (("--host", "xen", "lab", "list"), "host xen is no lab"),
        (("--host", "moon", "status", "x"), "'moon' is none of xen, lab, lab:DIR"),
    ],
)
def test_usage(run, words, why):
    done = run(*words)
    assert (done.code, done.out) == (64, "")
    assert done.err.startswith("xenqemu: ")
    assert why in done.err
    usage = "\nusage: xenqemu save" if words[:1] == ("save",) else "\nusage: xenqemu"
    assert (usage in done.err) == ("--host" not in words)


def test_the_module_is_the_program():
    done = spawn("--version")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"xenqemu 0.")
    installed = subprocess.run(
        [Path(sys.executable).with_name("xenqemu"), "--version"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert installed.stdout == done.stdout
    assert spawn("verify", "/nowhere").returncode == 1
    assert spawn("fly").returncode == 64


def test_help_names_the_commands():
    done = spawn("--help")
    assert done.returncode == 0
    for verb in (b"save", b"restore", b"verify", b"inspect", b"devices", b"status", b"lab"):
        assert b"\n    " + verb in done.stdout


def test_a_reader_that_leaves_hears_no_complaint(saved):
    command = [*PROGRAM, "inspect", "--json", str(saved)]
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # holds less than there is to show
    with subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE) as shown:
        os.close(writer)
        assert os.read(reader, 1) == b"{"
        os.close(reader)
        assert shown.stderr.read() == b""
    assert shown.returncode == 1


FULL = "standard output: No space left on device"
UNHEARD = "the command is done, its answer could not be printed"


@pytest.mark.parametrize(
    ("words", "code", "err"),
    [
        (("inspect", "{}"), 1, f"xenqemu: {FULL}\n"),
        (("inspect", "--json", "{}"), 1, f"xenqemu: {FULL}\n"),
        (("--help",), 1, f"xenqemu: {FULL}\n"),
        (("verify", "{}"), 0, f"xenqemu: {FULL}; {UNHEARD}\n"),
        (("verify", "--json", "{}"), 0, f"xenqemu: {FULL}; {UNHEARD}\n"),
        (("verify", "/nowhere"), 1, "xenqemu: /nowhere: No such file or directory\n"),
    ],
)
def test_output_that_cannot_be_written(saved, words, code, err):
    """That matters to what only prints; the outcome of the others is what they did."""
    command = [*PROGRAM, *(word.format(saved) for word in words)]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (code, err)


@pytest.mark.parametrize(
    "where",
    [
        *(">/dev/full", "--json >/dev/full", ">/dev/full 2>&1", "| true", "2>&1 | true"),
        *("2>&-", ">&-", "<&- >&- 2>&-"),
    ],
)
def test_the_outcome_decides_whoever_hears_it(place, where):
    """A host is up, or down, wherever the words go."""
    option = "--json" * ("--json" in where)
    to = where.removeprefix(option)
    command = f'("$0" -m xenqemu lab {{}} {option} "$1"; echo $? >"$2") {to}'
    for act, is_up in (("up", True), ("down", False)):
        subprocess.run(
            ["bash", "-c", command.format(act), sys.executable, place / "lab", place / "code"],
            capture_output=True,
            timeout=60,
            check=True,
        )
        code, socket = (place / "code").read_text(), place / "lab" / "xenstored.socket"
        assert (code, socket.exists()) == ("0\n", is_up)


@pytest.mark.parametrize(
    ("closed", "words", "code"),
    [
        ("<&-", "verify {}", 0),
        (">&-", "verify {}", 0),
        ("2>&-", "verify {}", 0),
        ("2>&-", "verify /nowhere", 1),
        (">&-", "lab list", 3),
        ("<&-", "verify -", 1),
    ],
)
def test_started_without_a_standard_stream(saved, tmp_path, closed, words, code):
    command = f'exec "$0" -m xenqemu {words.format(saved)} {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable],
        capture_output=True,
        timeout=60,
        check=False,
        env={**os.environ, "XENQEMU_LAB": str(tmp_path)},
    )
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


SIGNALS_AS_AT_A_TERMINAL = ("env", "--default-signal=HUP")
"""nohup has the tests ignore it, and so all that they start."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_order(number, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [*SIGNALS_AS_AT_A_TERMINAL, *PROGRAM, "verify", fifo]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE)
    writer = os.open(fifo, os.O_WRONLY)  # it is there once it has opened the other end
    try:
        time.sleep(0.2)
        waiting.send_signal(number)
        _, words = waiting.communicate(timeout=60)
    finally:
        os.close(writer)
    assert (waiting.returncode, words) == (130, b"xenqemu: interrupted\n")


def test_a_hangup_that_is_ignored_stays_so(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = ["env", "--ignore-signal=HUP", *PROGRAM, "verify", fifo]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE)
    writer = os.open(fifo, os.O_WRONLY)
    time.sleep(0.2)
    waiting.send_signal(signal.SIGHUP)
    os.close(writer)
    _, words = waiting.communicate(timeout=60)
    assert waiting.returncode == 2
    assert b": damaged: stream at offset 0x0: expected one of XL" in words


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from xenqemu.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("name", ["pyxs", "qemu"])  # tenacity is wanted by few commands
def test_a_module_that_is_missing_is_named(name, tmp_path):
    words = ["lab", "up", str(tmp_path / "lab")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, name, *words], capture_output=True, text=True, check=False
    )
    said = done.stderr or "nothing was needed of it"
    assert (done.returncode, said.count("\n")) == (1, 1), said
    assert f"the Python module {name} is missing (" in said


def test_a_folder_that_was_removed_is_named(run, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    lab = tmp_path / "lab"
    assert run("lab", "up", lab).code == 0
    try:
        for words in (("lab", "up", "one"), ("--host", "lab:one", "status", "x")):
            done = run(*words)
            assert (done.code, done.out) == (1, "")
            assert done.err == "xenqemu: the current folder: No such file or directory\n"
    finally:
        run("lab", "down", lab)
