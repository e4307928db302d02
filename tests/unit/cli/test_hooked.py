"""Hooks around commands: what they are told, what is said of them, and what they forbid."""

from __future__ import annotations

import json

import pytest

from tests.doubles.system.commands import spawn
from tests.golden import save_files
from xenqemu.formats.migration.handshake import WORDS, Message
from xenqemu.host import domain_state
from xenqemu.host.domain import Domain
from xenqemu.operations.journal.folder import Journals

WEB = Domain(5, "c52dca42-e6df-11f1-a061-0df29b9903a9", "web", "hvm")


@pytest.fixture
def conf(tmp_path):
    (tmp_path / "hooks.d").mkdir()
    file = tmp_path / "conf"
    file.write_text(f'xendomains = ""\nhooks.folder = "{tmp_path}/hooks.d"\n')
    return file


@pytest.fixture
def put(conf, tmp_path):
    """Put a hook in place, which notes what it is told."""

    def put(moment, text="", name="10"):
        hook = tmp_path / "hooks.d" / f"{moment}.d" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ncat >>{tmp_path}/{moment}\n{text}\n")
        hook.chmod(0o755)
        return hook

    return put


@pytest.fixture
def on_no_host(run, conf):
    return lambda *words: run("--conf", conf, "--host", "lab:/nowhere", *words)


@pytest.fixture
def told(tmp_path):
    return lambda moment: json.loads((tmp_path / moment).read_text())


NO = "echo no >&2; exit 1"


def test_a_file_to_restore_is_named_from_the_root(on_no_host, put, told, tmp_path, monkeypatch):
    put("pre-restore", NO)
    monkeypatch.chdir(tmp_path)
    done = on_no_host("restore", "some/../web.save")
    assert (done.code, done.out) == (3, "")
    assert done.err.endswith("/pre-restore.d/10 failed (exit status 1): no\n")
    about = {"moment": "pre", "act": "restore", "file": f"{tmp_path}/some/../web.save"}
    assert told("pre-restore") == about


def test_a_file_to_save_is_named_from_the_root(on_no_host, put, told, tmp_path, monkeypatch):
    monkeypatch.setattr(domain_state, "find", lambda _host, who: {"web": WEB}[who])
    put("pre-save", NO)
    monkeypatch.chdir(tmp_path)
    done = on_no_host("save", "web", "web.save")
    assert done.code == 3
    about = {"moment": "pre", "act": "save", "domid": 5, "name": "web"}
    assert told("pre-save") == {**about, "file": f"{tmp_path}/web.save"}


@pytest.mark.parametrize(
    ("words", "act"),
    [
        (("restore", "/none"), "restore"),
        (("save", "web", "/none/file"), "save"),
        (("migrate", "web", "there"), "migrate"),
        (("save-all",), "save"),
        (("restore-all",), "restore"),
    ],
)
def test_each_command_tells_of_hooks_that_do_not_run(on_no_host, put, words, act):
    hook = put(f"pre-{act}", NO, "10-no.sh")
    done = on_no_host(*words)
    why = 'its name has more than letters, digits, "_" and "-"'
    assert done.err.startswith(f"xenqemu: {hook} is not run: {why}\n")
    assert done.err.count("is not run") == 1
    assert done.out == ""


@pytest.fixture
def receive(folder, conf):
    """A function that gives the stream of a guest of Xen, which no lab takes, to a receiver."""

    def receive():
        words = ("--conf", conf, "--host", f"lab:{folder}", "migrate-receive")
        done = spawn(*words, data=save_files.unpacked("hvm.save"))
        assert (done.returncode, done.stdout) == (
            3,
            WORDS[Message.BANNER][1],
        )  # none is on the wire
        assert Journals(folder / "operations").found() == []
        return done.stderr.decode()

    return receive


def test_a_receiver_is_forbidden_to_take_a_guest(receive, put, told, tmp_path):
    put("pre-receive", f"echo loud; {NO}")
    put("failed-receive")
    put("pre-restore", NO)
    assert receive().endswith("/pre-receive.d/10 failed (exit status 1): no\n")
    about = told("pre-receive")
    assert about.pop("uuid")
    assert about == {"moment": "pre", "act": "receive", "name": "hvm"}
    assert not (tmp_path / "failed-receive").exists()  # nothing was begun
    assert not (tmp_path / "pre-restore").exists()


def test_a_receiver_that_fails_tells_its_hooks(receive, put, told):
    put("pre-receive", "echo loud")
    put("failed-receive", NO)
    said = receive()
    assert "is a guest of Xen: the lab cannot run it" in said
    assert said.endswith("/failed-receive.d/10 failed (exit status 1): no\n")
    assert "is a guest of Xen" in told("failed-receive")["error"]


def test_a_receiver_tells_of_hooks_that_do_not_run(receive, put):
    hook = put("pre-receive")
    hook.chmod(0o644)
    assert f"{hook} is not run: it is not executable (chmod +x)\n" in receive()
