"""The how-tos, run as they stand: each page as one session of a shell, on a host of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, RUN, Block, blocks, documents, printed_as
from tests.integration.lab.guests import CFG, LINUX, TIMEOUT, Host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SETUP = ROOT / "docs" / "howto" / "README.md"
"""What is run before each page: a lab host, and a guest."""

PAGES = [
    file
    for file in documents()
    if file != SETUP and any(block.kind == RUN for block in blocks(file))
]

AFTER = '\n__code=$?; printf \'\\036%s\\036\' "$__code"; (exit "$__code")\n'
"""Behind each command: its exit code between two signs, and kept for `$?`."""


def sessions(file: Path) -> Iterator[Block]:
    """Yield the blocks of a document that are run."""
    return (block for block in blocks(file) if block.kind == RUN)


def programs(file: Path) -> list[str]:
    """Return the Python programs in a document."""
    return ["\n".join(block.lines) for block in blocks(file) if block.kind == "python"]


@pytest.fixture
def place(folder: Path) -> Iterator[Path]:
    """A folder with what the pages take for granted; the hosts that are made there end."""
    (folder / "bin").mkdir()
    for name, options in (("python3", ""), ("xenqemu", "-P -m xenqemu")):
        start = folder / "bin" / name
        start.write_text(f'#!/bin/sh\nexec {sys.executable} {options} "$@"\n')
        start.chmod(0o755)
    (folder / "guest.cfg").write_text(CFG.format(name="web", memory=256) + LINUX % 0)
    (folder / "docs").symlink_to(ROOT / "docs")
    yield folder
    for name in ("one", "two"):
        if (folder / name).exists():
            Host(folder / name).lab.down()


def session(place: Path, script: str) -> str:
    """Run a script in a shell, and return what is printed."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=place,
        env={"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_as_it_stands(page, place):
    for program in programs(page):
        (place / "program.py").write_text(program)
    steps = [step for file in (SETUP, page) for block in sessions(file) for step in block.steps]
    script = "".join(f"{typed}{AFTER}" for _, typed, _ in steps)
    heard = session(place, script).split("\x1e")
    assert len(heard) == 2 * len(steps) + 1, heard
    asked = [re.search(r"\$\?", typed) for _, typed, _ in steps[1:]] + [None]
    for (line, typed, shown), out, code, next_asks in zip(
        steps, heard[::2], heard[1::2], asked, strict=False
    ):
        words = f"{page.name}:{line}: {typed}\n{out}"
        may_fail = next_asks or any(said.startswith("xenqemu: ") for said in shown)
        assert code == "0" or may_fail, f"exit code {code} of {words}"
        if shown:
            assert printed_as(shown).fullmatch(out), f"{shown} is not what is printed by {words}"


def test_the_lab_of_the_readme_runs_as_it_stands(place):
    """It has two hosts in /dev/shm, as the machine that this runs on may have."""
    found = [block for block in blocks(ROOT / "README.md") if "xenqemu lab up" in block.lines[0]]
    assert len(found) == 1
    config = place / "guest.cfg"
    config.write_text(config.read_text().replace('"web"', '"guest"'))
    said = session(place, "\n".join(["set -e", *found[0].lines]).replace("/dev/shm", str(place)))
    assert re.search(r"^created guest: domain 1$", said, re.MULTILINE)
    assert re.search(r"^restored guest from guest\.save: domain 1, running", said, re.MULTILINE)


def test_lines_for_ssh_and_age_run_as_they_stand(place):
    """A shell here stands for the other machine; its folders and root's are in `place`."""
    file = ROOT / "docs" / "targets.md"
    lines = [
        line.replace("/root/", f"{place}/").replace("/backup/", f"{place}/")
        for block in blocks(file)
        if block.kind == "indented" and re.search(r"\b(ssh|age) ", block.lines[0])
        for line in block.lines
    ]
    assert len(lines) == 4
    ssh = place / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nshift\nmkdir -p {place}/away\ncd {place}/away\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    keys = "age-keygen -o key && age-keygen -y -o recipients key"
    begin = ["set -e", keys, *(line for block in sessions(SETUP) for _, line, _ in block.steps)]
    said = session(place, "\n".join([*begin, *lines]))
    assert len(re.findall(r"^saved web to ", said, re.MULTILINE)) == 2, said
    assert len(re.findall(r"^restored web from .*: domain [23], running", said, re.MULTILINE)) == 2
    assert (place / "away" / "web.save").stat().st_mode & 0o777 == 0o600
