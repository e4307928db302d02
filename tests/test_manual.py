"""The manual pages: each command, option, setting and exit code has its place; groff agrees."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import calls, refusal
from xenqemu import errors
from xenqemu.cli.failure import INTERRUPTED
from xenqemu.cli.parser import COMMANDS, parser

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "make_manual.py"

spec = importlib.util.spec_from_file_location("make_manual", SCRIPT)
make_manual = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = make_manual
spec.loader.exec_module(make_manual)

PROSE = ROOT / "docs" / "man" / "commands"
ENTRY = re.compile(r"^\.T[PQ]\n(.*)$", re.MULTILINE)
SECTIONS = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "WHEN IT FAILS", "EXAMPLES", "SEE ALSO")


def plain(roff: str) -> str:
    """Return a line of roff as it is printed."""
    return re.sub(r"\\f[A-Z]|\\[,/&]", "", roff).replace(r"\-", "-")


@pytest.fixture(scope="module")
def pages():
    if missing := [name for name in COMMANDS if not (PROSE / f"{name}.1").exists()]:
        pytest.fail(f"no prose in docs/man/commands for {', '.join(missing)}")
    return dict(make_manual.pages())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, SCRIPT, made], check=True)
    return made


def entries(page: str) -> list[str]:
    """Return what the entries of a page are about."""
    return [plain(found) for found in ENTRY.findall(page)]


def test_prose_is_about_commands_that_there_are():
    assert {file.stem for file in PROSE.iterdir()} <= {*COMMANDS}


def test_every_command_has_a_page_with_all_sections(pages):
    for name in COMMANDS:
        found = re.findall(r"^\.SH (.*)", pages[f"xenqemu-{name}.1"], re.MULTILINE)
        assert [each for each in found if each in SECTIONS] == [*SECTIONS], name
        assert f".BR xenqemu\\-{make_manual.escaped(name)} (1)" in pages["xenqemu.1"]


def test_every_option_has_its_entry(pages):
    checked = 0
    for name, made in make_manual.acts_of(parser()).items():
        found = entries(pages[f"xenqemu-{name}.1"]) + entries(pages["xenqemu.1"])
        for each in make_manual.acts_of(made).values() or [made]:
            for action in make_manual.arguments(each):
                spellings = action.option_strings or [str(action.metavar)]
                words = [re.split(r",? ", entry) for entry in found]
                assert any({*spellings} <= {*mine} for mine in words) or spellings[0] in found
                checked += 1
    assert checked > 80


def test_options_before_the_command_have_their_entries(pages):
    found = entries(pages["xenqemu.1"])
    for action in make_manual.arguments(parser()):
        mine = [re.split(r",? ", entry) for entry in found]
        assert any({*action.option_strings} <= {*words} for words in mine), action.dest


def test_every_setting_has_its_entry_in_its_section(pages):
    conf = (ROOT / "etc" / "xenqemu.conf").read_text()
    settings = re.findall(r"^#(\w+ = .*)$", conf, re.MULTILINE)
    page = pages["xenqemu.conf.5"]
    assert [each for each in entries(page) if " = " in each] == settings
    assert len(settings) > 50
    assert re.findall(r"^\.SS (.*)", page, re.MULTILINE) == re.findall(
        r"^\[\w+\]", conf, re.MULTILINE
    )


def test_what_is_said_of_settings_is_said_in_the_page(pages):
    page = plain(pages["xenqemu.conf.5"])
    assert "fdeadlines" not in page
    for words in ("Seconds may be fractions", "The host to work on:", "Whether to save at all;"):
        assert words in page


def test_hooks_are_told_of_in_the_words_of_their_folder(pages):
    text = (ROOT / "etc" / "hooks.d" / "README").read_text()
    page = pages["xenqemu-hooks.7"]
    assert [*re.findall(r"[a-z]+", text)] == [
        *re.findall(r"[a-z]+", page.partition("names.\n")[2].partition(".SH")[0].replace("(ti", ""))
    ]


def codes(kind: type[errors.XenqemuError]) -> set[int]:
    """Return the exit codes of a class and those below it."""
    return {kind.exit_code}.union(*map(codes, kind.__subclasses__()))


def test_errors_page_has_exactly_the_exit_codes_that_there_are(pages):
    listed = [int(each.removeprefix(".B ")) for each in entries(pages["xenqemu-errors.7"])]
    assert len(listed) == len({*listed})
    assert {*listed} == {0, INTERRUPTED} | codes(errors.XenqemuError)


def test_errors_page_has_each_class_of_errors(pages):
    for name in errors.__all__:
        assert re.search(rf"\b{name}\b", pages["xenqemu-errors.7"]), name


def test_pages_that_are_referred_to_are_there(pages):
    for name, page in pages.items():
        for wanted, section in re.findall(
            r"^\.BR ((?:xenqemu|libxl)\S*) \((\d)\)", page, re.MULTILINE
        ):
            assert f"{plain(wanted)}.{section}" in pages, name


def test_the_same_tree_gives_the_same_bytes(pages, folder, tmp_path):
    environment = os.environ | {"COLUMNS": "40", "SOURCE_DATE_EPOCH": "86400"}
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, env=environment, cwd="/")
    made = [*folder.rglob("*.*")]
    assert {file.name for file in made} == {*pages}
    for file in made:
        dated = file.read_text().replace('""', '"1970-01-02"', 1)
        assert (tmp_path / file.relative_to(folder)).read_text() == dated


def test_text_is_printed_as_it_is():
    assert make_manual.escaped(".so \\n -x") == r"\&.so \en \-x"
    assert make_manual.plain_text("a\nb\n\n    .c\n    -d\n") == (
        ".PP\na b\n.PP\n.EX\n\\&.c\n\\-d\n.EE\n"
    )


def test_groff_and_lexgrog_have_no_complaint(folder):
    environment = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    for file in sorted(folder.rglob("*.*")):
        shown = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", file],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        assert shown.stderr == "", file.name
        named = subprocess.run(["lexgrog", file], capture_output=True, text=True, check=True)
        name = file.stem if file.name != "xenqemu.conf.5" else "xenqemu.conf"
        assert named.stdout.startswith(f'{file}: "{name} - '), named.stdout


def test_the_program_takes_every_example(pages):
    checked = 0
    for name, page in pages.items():
        for example in re.findall(r"^\.EX\n(.*?)^\.EE", page, re.MULTILINE | re.DOTALL):
            for line in plain(example).replace("\\e", "\\").splitlines():
                if line.startswith("xenqemu ") or " xenqemu " in line:
                    assert refusal(line) == "", name
                    checked += len([*calls(line)])
    assert checked > 35
