"""What a command loads: under an emulated processor loading takes longer than many an act."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from xenqemu.cli.parser import parser

LOADED = "import sys\nfrom xenqemu.cli.parser import parser"

QEMU = {"asyncio", "qemu.qmp", "xenqemu.host.qemu.qmp"}
XENSTORE = {"pyxs", "tenacity", "xenqemu.host.xenstore.store"}
PARTIES = {*XENSTORE, "xenqemu.host.xen.library"}
OPERATIONS = {f"xenqemu.operations.{name}" for name in ("save", "restore", "migrate", "recover")}


def loaded(act: str, first: str = LOADED) -> set[str]:
    """Return the modules that are there once `act` is done."""
    program = f"{first}\n{act}\nprint(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(run.stdout.splitlines()[-1].split())


def commands(there: set[str]) -> set[str]:
    """Return the modules of commands among these."""
    return {name for name in there if name.startswith("xenqemu.cli.") and "_command" in name}


@pytest.mark.parametrize("words", ["xenqemu --help", "xenqemu --version", "xenqemu"])
def test_to_say_what_there_is_takes_no_command(words: str) -> None:
    act = f"try: parser().parse_args({words.split()[1:]})\nexcept BaseException: pass"
    there = loaded(act)
    assert not commands(there)
    assert not there & (QEMU | OPERATIONS)


@pytest.mark.parametrize(
    ("words", "module"),
    [
        ("save a b", "save_command"),
        ("save --help", "save_command"),
        ("restore a", "restore_command"),
        ("migrate a b", "migrate_command"),
        ("migrate-receive", "receive_command"),
        ("recover", "recover_command"),
        ("verify a", "verify_command"),
        ("config show a", "config_command"),
        ("devices save a b", "devices_command"),
        ("status a", "status_command"),
        ("saved a", "saved_command"),
        ("check a", "check_command"),
    ],
)
def test_to_be_understood_a_command_loads_its_own_module_and_no_operation(
    words: str, module: str
) -> None:
    there = loaded(f"try: parser().parse_args({words.split()})\nexcept SystemExit: pass")
    assert commands(there) == {f"xenqemu.cli.{module}"}
    assert not there & (QEMU | OPERATIONS)
    assert not any(name.startswith(("xenqemu.lab", "xenqemu.host.xen")) for name in there)


@pytest.mark.parametrize(
    ("words", "operations"),
    [
        ("save a b", {"save"}),
        ("restore a", {"restore"}),
        ("migrate a b", {"migrate"}),
        ("verify a", set()),
        ("inspect a", set()),
        ("status a", {"recover"}),
        ("saved a", set()),
    ],
)
def test_to_be_done_it_loads_its_own_operation(words: str, operations: set[str]) -> None:
    act = f"main(['--host', 'xen', *{words.split()}])"
    there = loaded(act, "import sys; from xenqemu.cli.main import main")
    assert there & OPERATIONS == {f"xenqemu.operations.{name}" for name in operations}
    assert not there & QEMU


@pytest.mark.parametrize(
    "words", ["--help", "verify --help", "verify FILE", "inspect FILE", "inspect --json FILE"]
)
def test_what_only_reads_loads_no_party_of_a_host(words: str, saved: Path) -> None:
    given = [str(saved) if word == "FILE" else word for word in words.split()]
    there = loaded(f"main({given})", "import sys; from xenqemu.cli.main import main")
    assert not there & (QEMU | PARTIES | OPERATIONS)


@pytest.mark.parametrize("words", ["--help", "verify FILE"])
def test_what_reads_a_file_loads_neither_programs_nor_threads(words: str, saved: Path) -> None:
    given = [str(saved) if word == "FILE" else word for word in words.split()]
    there = loaded(f"main({given})", "import sys; from xenqemu.cli.main import main")
    assert not there & {"threading", "subprocess", "socket", "logging", "shutil", "hashlib"}
    assert not any(name.startswith("xenqemu.settings") for name in there)


def test_the_save_helper_loads_the_writer_alone() -> None:
    there = loaded("", "import sys; import xenqemu.save_helper")
    assert not there & (QEMU | XENSTORE | OPERATIONS | {"argparse", "subprocess", "logging"})
    away = ("xenqemu.cli", "xenqemu.operations", "xenqemu.settings", "xenqemu.lab")
    assert not any(name.startswith(away) for name in there)


def test_the_package_alone_loads_nothing() -> None:
    there = loaded("", "import sys, xenqemu")
    assert {name for name in there if name.startswith("xenqemu")} == {
        "xenqemu",
        "xenqemu.version",
    }


def test_only_the_chosen_command_is_made() -> None:
    top = parser()
    top.parse_args(["status", "guest"])
    actions = top._actions  # noqa: SLF001  argparse tells it in no other way
    verbs = next(action.choices for action in actions if action.dest == argparse.SUPPRESS)
    made = [name for name, verb in verbs.items() if "prog" in vars(verb)]
    assert (made, len(verbs)) == (["status"], 21)
