"""The administrator's own programs: one that forbids, one that hangs, one that crashes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


@pytest.fixture
def conf(folder: Path) -> Path:
    """Settings whose hooks are in a folder of the test's."""
    (folder / "hooks.d").mkdir()
    file = folder / "xenqemu.conf"
    file.write_text(f'[hooks]\nfolder = "{folder}/hooks.d"\ndeadline = 1\n')
    return file


def hook(conf: Path, moment: str, text: str) -> None:
    """Put a hook there."""
    place = conf.parent / "hooks.d" / f"{moment}.d"
    place.mkdir(exist_ok=True)
    (place / "10-test").write_text(f"#!/bin/sh\n{text}\n")
    (place / "10-test").chmod(0o755)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo the backup runs >&2; exit 1", "exit status 1): the backup runs"),
        ("sleep 60", "was killed: it was not done within 1 s"),
        ("kill -SEGV $$", "signal 11"),
    ],
)
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
