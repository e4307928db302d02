"""Our own modules as programs, where others have put modules into the folder we are called in."""

import subprocess
from pathlib import Path

import pytest

from xenqemu.system.own_program import own_program
from xenqemu.version import VERSION


@pytest.mark.parametrize("name", ["argparse", "xenqemu", "runpy"])
def test_nothing_is_loaded_from_the_current_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of this folder')\n")
    words = [*own_program("xenqemu"), "--version"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"xenqemu {VERSION}\n"


def test_a_checkout_that_python_has_on_no_path() -> None:
    """We may have been loaded from the current folder, by `python3 -m xenqemu`."""
    program, *words = own_program("xenqemu")
    done = subprocess.run(
        [program, "-I", "-S", *words, "--version"],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"xenqemu {VERSION}\n"), done.stderr
