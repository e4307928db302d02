"""xl asked what it makes of an xl.cfg; its words are those of xl 4.17."""

import json

import pytest

from tests.doubles.xen.xl_peer import write_xl
from tests.golden.xl_answers import answers, cases
from xenqemu.errors import BadRecord, FormatError, HostError, HostTimeout
from xenqemu.host.party_deadlines import DEFAULT_DEADLINES, Deadlines
from xenqemu.host.xen.xl.xl_dry_run import asked

CASE = "hvm-memory-string-bad"
TEXT, ANSWER = cases()[CASE], answers("4.17")[CASE]


@pytest.fixture
def ask(tmp_path):
    """A function that asks an xl which does as it is told."""
    file = tmp_path / "g.cfg"
    file.write_bytes(TEXT)

    def ask(act, text=TEXT, deadlines=DEFAULT_DEADLINES):
        parts = f"assert words == ['-N', 'create', {str(file)!r}]\n", act
        return asked(file, text, deadlines, write_xl(tmp_path / "xl", *parts))

    return ask


def answering(tree, *said):
    """Return what xl does."""
    said = ("Parsing config from x", *said)
    lines = "\n".join(f"print({line!r}, file=sys.stderr)" for line in said)
    return f"print(json.dumps({tree!r}))\n{lines}\n"


def test_what_xl_prints_is_the_config_and_what_it_says_are_warnings(ask):
    guest = ask(answering(ANSWER.tree, *ANSWER.said.splitlines()))
    assert json.dumps(guest.config.tree) == json.dumps(ANSWER.tree)
    assert guest.warnings == ("x.cfg:6: warning: parameter `memory' is not a valid number",)
    assert guest.ignored == ()


def test_names_that_xl_passes_over_in_silence_are_told(ask):
    said = answering(ANSWER.tree)
    assert ask(said, TEXT + b"foo = 1\non_host_shutdown = 'save'\n").ignored == (
        *("foo", "on_host_shutdown"),
    )
    assert ask(said, b"what xl takes better than we").ignored == ()


def test_what_xl_never_set_is_left_out(ask):
    tree = answers("4.17")["hvm-rdm-strategy"].tree
    assert tree["b_info"]["type.hvm"]["rdm"] == {"strategy": "host", "policy": None}
    made = ask(answering(tree)).config.tree
    assert made["b_info"]["type.hvm"]["rdm"] == {"strategy": "host"}


def test_a_file_that_xl_refuses(ask):
    with pytest.raises(BadRecord, match=r"xl\.cfg .* a file that xl takes, got Unknown vga"):
        ask("fail('Parsing config from x\\nUnknown vga \"ega\" specified')")
    with pytest.raises(BadRecord, match="a file that xl takes, got no reason given"):
        ask("fail('Parsing config from x')")


@pytest.mark.parametrize("printed", ["", "{", "[]", "{}", '{"c_info": 5, "b_info": {}}', "null"])
def test_what_is_no_config(ask, printed):
    with pytest.raises(FormatError):
        ask(f"print({printed!r})")


def test_an_xl_that_is_not_there_or_does_not_end(ask, tmp_path):
    with pytest.raises(HostTimeout, match="xl -N create did not end within 0.2 s"):
        ask("time.sleep(60)", deadlines=Deadlines(xl_command=0.2))
    with pytest.raises(HostError, match="cannot run xl -N create"):
        asked(tmp_path / "g.cfg", TEXT, xl=(str(tmp_path / "none"),))
