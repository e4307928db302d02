"""The administrator's own programs: one that forbids, one that hangs, one that crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.lab.guests import CFG, Done, Host

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


SAYS_NO = pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo the backup runs >&2; exit 1", "exit status 1): the backup runs"),
        pytest.param("sleep 60", "was killed: it did not end within 5 s", marks=pytest.mark.long),
        pytest.param("kill -SEGV $$", "signal 11", marks=pytest.mark.long),
    ],
)


@pytest.fixture
def conf(folder: Path) -> Path:
    """Settings whose hooks are in a folder of the test's."""
    (folder / "hooks.d").mkdir()
    file = folder / "xenqemu.conf"
    file.write_text(f'[hooks]\nfolder = "{folder}/hooks.d"\ndeadline = 5\n')
    return file


def hook(conf: Path, moment: str, text: str) -> None:
    """Put a hook there."""
    place = conf.parent / "hooks.d" / f"{moment}.d"
    place.mkdir(exist_ok=True)
    (place / "10-test").write_text(f"#!/bin/sh\n{text}\n")
    (place / "10-test").chmod(0o755)


@SAYS_NO
def test_hook_that_does_not_say_yes_forbids(one, firmware_record, conf, text, words):
    one.restore(firmware_record)
    hook(conf, "pre-save", text)
    hook(conf, "failed-save", f"cat >{conf.parent}/failed")
    record = conf.parent / "record"
    done = one.run("--conf", conf, "save", "tiny", record)
    assert (done.code, words in done.err) == (3, True), done
    assert not record.exists()
    assert one.status("tiny")["running"]
    assert not (conf.parent / "failed").exists()  # nothing was begun


def test_hooks_are_told_what_is_done(one, firmware_record, conf):
    for moment in ("pre-save", "post-save", "pre-restore", "post-restore", "failed-restore"):
        hook(conf, moment, f"cat >{conf.parent}/{moment}; echo said; exit {int('post' in moment)}")
    guest = one.restore(firmware_record)
    record = conf.parent / "record"
    done = one.run("--conf", conf, "save", "tiny", record)
    assert done.code == 0
    assert "post-save.d/10-test failed (exit status 1)" in done.err  # too late to forbid
    about = {"act": "save", "domid": guest.domid, "name": "tiny", "file": str(record)}
    for moment in ("pre", "post"):
        assert json.loads((conf.parent / f"{moment}-save").read_text()) == about | {
            "moment": moment
        }
    assert one.run("--conf", conf, "restore", record).code == 0
    assert one.run("--conf", conf, "restore", record).code == 3
    failed = json.loads((conf.parent / "failed-restore").read_text())
    assert "is named tiny" in failed["error"]


ONLY = 'grep -q \'"name": "mail"\' || exit 0'
"""Have a hook of a save do what follows to one guest alone."""


def each(done: Done) -> dict[str, tuple[str, str]]:
    """Return what became of each guest, and why."""
    return {about["name"]: (about["outcome"], about["text"]) for about in done.lines}


@pytest.fixture
def everyone(one: Host, conf: Path) -> list[str]:
    """Three guests, and settings to save and restore all of them by."""
    settings = ['xendomains = ""', f'save_all.folder = "{conf.parent}/records"']
    settings += ["restore_all.proof = 1", "save_all.parallel = 3"]
    conf.write_text("\n".join([*settings, conf.read_text()]))
    names = ["mail", "old", "web"]
    for name in names:
        one.create(CFG.format(name=name, memory=16))
    return names


@SAYS_NO
def test_a_hook_that_does_not_say_yes_keeps_one_guest_as_it_is(one, conf, everyone, text, words):
    """It is neither saved nor shut down, and the others do not feel it; so in a restore."""
    hook(conf, "pre-save", f"{ONLY}\n{text}")
    hook(conf, "failed-save", f"cat >>{conf.parent}/failed")
    done = one.run("--conf", conf, "save-all", "--json")
    assert (done.code, done.err.split()[-1]) == (3, "mail")
    became = each(done)
    assert {name: how for name, (how, _) in became.items()} == {
        "mail": "forbidden",
        "old": "saved",
        "web": "saved",
    }
    assert words in became["mail"][1]
    assert became["mail"][1].endswith("; it is left alone")
    assert {each["name"]: each["running"] for each in one.list()} == {"mail": True}
    assert not (conf.parent / "failed").exists()  # nothing was begun

    hook(conf, "pre-restore", f"grep -q records/web || exit 0\n{text}")
    done = one.run("--conf", conf, "restore-all", "--json")
    assert (done.code, done.err.split()[-1]) == (3, "web")
    became = each(done)
    assert became["old"][0] == "restored"
    assert became["web"][0] == "forbidden"
    assert words in became["web"][1]
    record = conf.parent / "records" / "web"
    assert became["web"][1].endswith(f"; its save file is {record}")
    assert {each["name"]: each["running"] for each in one.list()} == {"mail": True, "old": True}
    one.must("restore", record)


def test_hooks_are_told_of_each_of_all_guests(one, conf, everyone):
    acts = [f"{moment}-{act}" for act in ("save", "restore") for moment in ("pre", "post")]
    for name in acts:
        hook(conf, name, f"""printf '%s\\n' "$(cat)" >>{conf.parent}/{name}""")  # in one write
    records = conf.parent / "records"
    hook(conf, "failed-restore", f"cat >{conf.parent}/failed-restore")
    domids = {each["name"]: each["domid"] for each in one.list()}
    assert one.run("--conf", conf, "save-all").code == 0
    (records / "wrong").write_text("no record")
    assert one.run("--conf", conf, "restore-all").code == 3

    def told(name: str) -> list[dict[str, object]]:
        lines = (conf.parent / name).read_text().splitlines()
        return sorted(map(json.loads, lines), key=lambda about: str(about["file"]))

    for moment in ("pre", "post"):
        assert told(f"{moment}-save") == [
            {"moment": moment, "act": "save", "domid": domids[name], "name": name}
            | {"file": f"{records}/{name}"}
            for name in everyone
        ]
    for moment, names in (("pre", [*everyone, "wrong"]), ("post", everyone)):
        assert told(f"{moment}-restore") == sorted(
            ({"moment": moment, "act": "restore", "file": f"{records}/{name}"} for name in names),
            key=lambda about: about["file"],
        )
    (failed,) = told("failed-restore")
    assert failed["file"] == f"{records}/wrong"
    assert failed["error"]
