"""What a command loads: under an emulated processor loading takes longer than many an act."""

import argparse
import subprocess
import sys

import pytest

from xenqemu.cli.parser import parser

LOADED = """
import sys
from importlib import import_module
from xenqemu.cli.parser import parser
{act}
print(*sys.modules)
"""

QEMU = {"asyncio", "qemu.qmp", "xenqemu.host.qemu.qmp"}
OPERATIONS = {f"xenqemu.operations.{name}" for name in ("save", "restore", "migrate", "recover")}


def loaded(act: str) -> set[str]:
    """Return the modules that are there once `act` is done."""
    run = subprocess.run(
        [sys.executable, "-c", LOADED.format(act=act)], check=True, capture_output=True, text=True
    )
    return set(run.stdout.split())


def module(name: str) -> str:
    return f"import_module('xenqemu.cli.{name}')"


@pytest.mark.parametrize("words", [["save", "a", "b"], ["lab", "list"], ["recover"]])
def test_to_know_what_is_wanted_takes_no_operation(words: list[str]) -> None:
    there = loaded(f"parser().parse_args({words})")
    assert not there & (QEMU | OPERATIONS)
    assert not any(name.startswith(("xenqemu.lab", "xenqemu.host.xen")) for name in there)


@pytest.mark.parametrize(
    ("name", "operations"),
    [("saving", {"save"}), ("restoring", {"restore"}), ("files", set()), ("devices", set())],
)
def test_a_command_loads_its_own_operation(name: str, operations: set[str]) -> None:
    there = loaded(module(name))
    assert there & OPERATIONS == {f"xenqemu.operations.{name}" for name in operations}
    assert not there & QEMU


def test_only_the_chosen_command_is_made() -> None:
    top = parser()
    top.parse_args(["status", "guest"])
    verbs = next(action.choices for action in top._actions if action.dest == argparse.SUPPRESS)
    made = [name for name, verb in verbs.items() if "prog" in vars(verb)]
    assert (made, len(verbs)) == (["status"], 13)
