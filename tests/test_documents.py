"""Command lines in README and docs: the program takes each, and each is run or said not to be."""

import ast
import re

import pytest

from tests.documents import (
    ROOT,
    RUN,
    SHELL,
    XEN,
    blocks,
    calls,
    documents,
    printed_as,
    refusal,
    spans,
)

NAMES = [str(file.relative_to(ROOT)) for file in documents()]

ON_XEN = {
    "docs/howto/replace-xl-save.md": "xl itself is called: run in a dom0, by the tests on Xen",
    "docs/howto/save-all-at-shutdown.md": "systemd: test_reboot.py calls what its units do",
}
"""Documents with lines that take a Xen host, and why; the lab has no such thing."""

ONLY_PARSED = {
    "README.md": "an overview; its lines for the lab are run, the others take files of one's own",
    "docs/targets.md": "its lines for ssh and age are run, the others take accounts",
}
"""Documents with lines that are no session, and why."""


def kinds(name: str) -> set[str]:
    """Return the kinds of the blocks of a document in which xenqemu is called."""
    return {
        block.kind
        for block in blocks(ROOT / name)
        if block.kind in SHELL and any([*calls(line)] for _, line in block.typed)
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_program_takes_every_command_line(name):
    lines = [line for block in blocks(ROOT / name) if block.kind in SHELL for line in block.typed]
    assert [f"{name}:{n}: {why}" for n, line in lines if (why := refusal(line))] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_program_takes_what_sentences_say(name):
    """These may leave out arguments."""
    found = [(n, why) for n, line in spans(ROOT / name) if (why := refusal(line))]
    assert [f"{name}:{n}: {why}" for n, why in found if "are required" not in why] == []


def test_every_block_is_run_or_there_is_a_reason():
    assert {name for name in NAMES if XEN in kinds(name)} == {*ON_XEN}
    assert {name for name in NAMES if kinds(name) - {RUN, XEN}} == {*ONLY_PARSED}


def test_many_are_found():
    found = [line for name in NAMES for block in blocks(ROOT / name) for line in block.typed]
    assert sum(len([*calls(line)]) for _, line in found) > 60


def test_every_link_between_documents_leads_somewhere():
    for name in NAMES:
        text = (ROOT / name).read_text()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert ((ROOT / name).parent / link).exists(), f"{name}: {link}"


def test_an_option_that_there_is_not_is_found():
    assert "--nonsense" in refusal("sudo xenqemu status --nonsense web")
    assert "--nonsense" in refusal("true && A=b xenqemu save --to 'xenqemu verify --nonsense -' w")
    assert refusal("if xenqemu saved web >/dev/null 2>&1; then echo xenqemu --nonsense; fi") == ""


def test_what_is_printed_is_compared():
    shown = printed_as(["saved web to …: 12 bytes; 0.5 s", "…", "WEB     1   end"])
    assert shown.fullmatch("saved web to x: 7.1 MiB; 12 ms\nmore\nlines\nWEB  123   end\n")
    assert shown.fullmatch("saved web to x y: 7 bytes; 12 s\nWEB     1   end\n")
    for wrong in (
        "saved web to x: 7 bytes; 12 h\nWEB 1   end\n",
        "saved web to x: 7 bytes; s\nWEB 1   end\n",
        "saved web to x: 7 bytes; 12 s\nWEB 1   end\nmore\n",
        "saved webs to x: 7 bytes; 12 s\nWEB 1   end\n",
    ):
        assert not shown.fullmatch(wrong)


def messages() -> set[str]:
    """Return all texts in the program but docstrings, with "…" where a value stands."""
    found = set()
    for file in (ROOT / "xenqemu").rglob("*.py"):
        nodes = [*ast.walk(ast.parse(file.read_text()))]
        about = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                values = [getattr(each, "value", "") for each in node.values]
                found.add("".join(each if isinstance(each, str) else "…" for each in values))
            elif isinstance(node, ast.Constant) and id(node) not in about:
                found.add(str(node.value))
    return found


def test_messages_in_troubleshooting_are_those_of_the_program():
    text = (ROOT / "docs" / "howto" / "troubleshooting.md").read_text()
    told = [
        row
        for cell in re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
        for row in re.findall(r"`([^`]*)`", cell)
    ]
    assert len(told) > 20
    known = messages()
    for words in told:
        for part in filter(None, (each.strip() for each in words.split("…"))):
            assert any(part in each for each in known), words
