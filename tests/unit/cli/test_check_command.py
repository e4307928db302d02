"""`xenqemu check`: its lines, its JSON and its exit codes."""

import json
from pathlib import Path

import pytest

import xenqemu
from tests.doubles.answers import is_a
from tests.doubles.qemu.lab_guest import config
from xenqemu.errors import HostError
from xenqemu.host import domain_state
from xenqemu.host.domain import Domain
from xenqemu.host.findings import Finding
from xenqemu.host.peer.route import Route
from xenqemu.lab.lab_host import Lab
from xenqemu.operations import check as checks

WEB = Domain(5, config().uuid, "web", "hvm")


def refusal(what, text, hint=""):
    error = HostError(text)
    if hint:
        error.add_note(hint)
    return Finding.refusal(what, error)


AGE = Finding.warning("age", "the disk was changed")
NAME = refusal("name", "domain 3 is named web already")
VTPM = refusal("vtpm", "web has a vTPM", "detach it")


@pytest.fixture
def asked(monkeypatch):
    """What was asked of the checks, where there is a domain "web"; `found` is what they find."""

    class Asked(list):
        found = ()

        def by(self, name):
            return lambda _host, *words: self.append((name, *words)) or iter(self.found)

    def find(_host, name):
        if name == "web":
            return WEB
        raise HostError(f"there is no domain {name!r} on this host")

    asked = Asked()
    monkeypatch.setattr(domain_state, "find", find)
    for name in ("savable", "restorable"):
        monkeypatch.setattr(checks, name, asked.by(name))
    for name in ("movable", "restorable_there"):
        monkeypatch.setattr(checks, name, lambda *words, name=name: asked.by(name)(*words[:-1]))
    return asked


@pytest.fixture
def check(run):
    return lambda *words: run("--host", "lab:/nowhere", "check", *words)


def test_nothing_is_found(check, asked):
    assert check("web") == (0, "a save of web would work\n", "")
    assert check("--json", "web").json == {"findings": []}
    assert asked == [("savable", WEB, None)] * 2


def test_warnings_alone(check, asked):
    asked.found = (AGE,)
    said = "warning: the disk was changed\na save of web would work: 0 refusals, 1 warning\n"
    assert check("web") == (6, said, "")
    assert check("--quiet", "web") == (6, "warning: the disk was changed\n", "")


def test_refusals_come_first(check, asked):
    asked.found = (AGE, NAME, VTPM)
    done = check("/saved/web")
    assert done.code == 3
    assert done.out.splitlines() == [
        "refused: domain 3 is named web already",
        "refused: web has a vTPM; detach it",
        "warning: the disk was changed",
        "a restore of /saved/web would fail: 2 refusals, 1 warning",
    ]
    assert done.err == ""


def test_json(check, asked):
    asked.found = (AGE, VTPM)
    done = check("--json", "web")
    assert (done.code, done.err) == (3, "")
    is_a(json.loads(done.out), "check")
    assert json.loads(done.out) == {
        "version": 1,
        "findings": [
            {"severity": "refusal", "what": "vtpm", "text": "web has a vTPM", "hint": "detach it"},
            {"severity": "warning", "what": "age", "text": "the disk was changed"},
        ],
    }


def test_what_is_a_domain_and_what_a_file(check, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("web", "mail"):
        (tmp_path / name).touch()
    for word in ("web", "./web", "mail"):
        assert check(word).code == 0
    words = [(name, str(what)) for name, what, _ in asked]
    assert words == [("savable", str(WEB)), ("restorable", "web"), ("restorable", "mail")]
    said = "xenqemu: there is no domain 'nobody' on this host\n"
    assert check("nobody") == (3, "", said)


def test_elsewhere(check, asked, tmp_path):
    assert check("--on", "there", "web").out == "a migration of web to there would work\n"
    assert check("--on", "there", "-s", "way", "/a").out == "a restore of /a on there would work\n"
    assert asked[0] == ("movable", WEB, Route("there", "ssh"))
    assert asked[1] == ("restorable_there", Path("/a"), None, Route("there", "way"))


def test_a_folder_and_a_key(check, asked, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    assert check("--to", tmp_path, "web").code == 0
    assert check("--key-file", key, "/a").code == 0
    assert asked[0] == ("savable", WEB, tmp_path)
    assert asked[1][2] == b"secret"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--to", "/a", "/saved"), "--to goes with a domain"),
        (("--to", "/a", "--on", "there", "web"), "--to goes without --on"),
        ((), "the following arguments are required: DOM|FILE"),
    ],
)
def test_what_makes_no_sense(check, asked, words, why):
    done = check(*words)
    assert done.code == 64
    assert why in done.err
    assert asked == []


def test_a_key_and_a_domain(check, asked, tmp_path):
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    done = check("--key-file", key, "web")
    assert (done.code, done.err) == (64, "xenqemu: --key-file goes with a save file\n")


def test_as_a_function(asked, tmp_path):
    asked.found = (AGE,)
    host = Lab(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    assert xenqemu.check("web", to=tmp_path, host=host) == [AGE]
    assert xenqemu.check(Path("web"), key_file=key, host=host) == [AGE]
    assert xenqemu.check("web", on="there", host=host) == [AGE]
    assert asked == [
        ("savable", WEB, tmp_path),
        ("restorable", Path("web").absolute(), b"secret"),
        ("movable", WEB, Route("there", ("ssh",))),
    ]


def test_a_real_save_file_on_a_host_of_another_kind(run, saved, folder):
    done = run("--host", f"lab:{folder}", "check", saved)
    assert done.code == 3
    lines = done.out.splitlines()
    assert lines[0] == "refused: vga is a guest of Xen: the lab cannot run it"
    assert lines[1].startswith(f"warning: {saved} has no seal")
    (folder / "hello").write_text("hello")
    assert run("--host", f"lab:{folder}", "check", folder / "hello").code == 2
