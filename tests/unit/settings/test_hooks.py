"""Hooks: real programs that obey, forbid, hang, die, flood and are not to be trusted."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.as_root import as_root
from tests.doubles.system.processes import wait_ended
from xenqemu.errors import Forbidden
from xenqemu.settings import hooks as hooks_module
from xenqemu.settings.hooks import Hooks
from xenqemu.system import child
from xenqemu.system.process import Process

ABOUT = {"domid": 7, "name": "web\udcff", "file": "/var/lib/web.save"}


@pytest.fixture
def place(tmp_path):
    folder = tmp_path / "hooks.d"
    folder.mkdir()
    return folder


@pytest.fixture
def hooks(place):
    return Hooks(place, 20.0)


@pytest.fixture
def put(place, tmp_path):
    """Put a hook in place, which stands in our folder of notes: $NOTES of its script."""

    def put(script, name="hook", moment="pre-save"):
        folder = place / f"{moment}.d"
        folder.mkdir(exist_ok=True)
        hook = folder / name
        hook.write_text(f"#!/bin/sh\nNOTES={tmp_path}\n{script}\n")
        hook.chmod(0o755)
        return hook

    return put


def test_no_hooks_at_all(hooks, place, tmp_path):
    assert hooks.run("pre", "save", ABOUT) == ()
    (place / "pre-save.d").mkdir()
    assert hooks.run("pre", "save", ABOUT) == ()
    assert Hooks(tmp_path / "none").run("failed", "migrate", ABOUT) == ()


@pytest.mark.parametrize("moment", ["pre", "post", "failed"])
@pytest.mark.parametrize("act", ["save", "restore", "migrate"])
def test_a_hook_is_told_what_is_done(hooks, put, tmp_path, moment, act):
    put("cat >$NOTES/told", moment=f"{moment}-{act}")
    assert hooks.run(moment, act, ABOUT) == ()
    assert json.loads((tmp_path / "told").read_text()) == {"moment": moment, "act": act, **ABOUT}
    assert [path.name for path in tmp_path.iterdir() if path.name != "hooks.d"] == ["told"]


def test_hooks_run_in_the_order_of_their_names_and_as_run_parts_names_them(hooks, put, tmp_path):
    for name in ("20-b", "10_a", "B", "a", "9", "x.sh", "x~", "x.dpkg-old", ".x", "x y"):
        put('echo "${0##*/}" >>$NOTES/ran', name)
    put("", "not-executable").chmod(0o644)
    (put("", "folder").parent / "sub").mkdir()
    (put("", "linked").parent / "link").symlink_to(put("echo link >>$NOTES/ran", "l.target"))
    (put("", "linked").parent / "broken").symlink_to("/nowhere")
    assert hooks.run("pre", "save", ABOUT) == ()
    ran = (tmp_path / "ran").read_text().split()
    assert ran == ["10_a", "20-b", "9", "B", "a", "link"]


def test_the_environment_is_a_hooks_own(hooks, put, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LD_PRELOAD", "")
    put(
        "cat /proc/$$/environ >$NOTES/environment; pwd >$NOTES/folder; ls -l /proc/$$/fd >$NOTES/fd"
    )
    with open("/dev/full") as ours:
        os.set_inheritable(ours.fileno(), True)
        hooks.run("pre", "save", ABOUT)
    found = dict(
        pair.split("=", 1) for pair in (tmp_path / "environment").read_text().split("\0") if pair
    )
    assert found == hooks_module.ENVIRONMENT
    assert (tmp_path / "folder").read_text() == "/\n"
    assert "/dev/null" in (tmp_path / "fd").read_text()
    assert "/dev/full" not in (tmp_path / "fd").read_text()


def test_what_a_hook_says_on_its_output_is_nobodys(hooks, put, capfd):
    put("echo loud; echo louder >&2")
    assert hooks.run("pre", "save", ABOUT) == ()
    assert capfd.readouterr() == ("", "")


def test_a_hook_need_not_listen(hooks, put):
    put("exec <&-")
    assert hooks.run("pre", "save", {"much": "x" * 300_000}) == ()


# Those that say no.


def test_a_hook_forbids_with_its_reason(hooks, put, tmp_path):
    hook = put("echo '  the backup' >&2; echo runs >&2; exit 3", "10-first")
    put("touch $NOTES/second", "20-second")
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value) == f"{hook} failed (exit status 3): the backup; runs"
    assert not (tmp_path / "second").exists()


def test_a_hook_forbids_without_a_reason(hooks, put):
    put("exit 1")
    with pytest.raises(Forbidden, match=r"hook failed \(exit status 1\): no reason given"):
        hooks.run("pre", "save", ABOUT)


@pytest.mark.parametrize("moment", ["post", "failed"])
def test_afterwards_it_is_too_late_to_forbid(hooks, put, tmp_path, moment):
    put("echo one >&2; exit 1", "1", f"{moment}-save")
    put("touch $NOTES/two", "2", f"{moment}-save")
    put("kill -SEGV $$", "3", f"{moment}-save")
    first, third = hooks.run(moment, "save", ABOUT)
    assert first.endswith("1 failed (exit status 1): one")
    assert third.endswith("3 failed (signal 11): no reason given")
    assert (tmp_path / "two").exists()


# Those that hang, die, or talk without end.


def pids(tmp_path):
    return [Process.of(int(pid)) for pid in (tmp_path / "pids").read_text().split()]


@pytest.mark.parametrize("trap", ["", "trap '' TERM INT HUP"])
def test_a_hook_that_hangs_is_killed_with_all_it_started(place, put, tmp_path, trap):
    put(f"{trap}\nsleep 600 & echo $$ $! >$NOTES/pids.new; mv $NOTES/pids.new $NOTES/pids; wait")
    seen = []

    def look():
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        seen.extend(pids(tmp_path))

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(Forbidden, match=r"hook was killed: it did not end within 1 s"):
        Hooks(place, 1.0).run("pre", "save", ABOUT)
    looking.join(20)
    assert len(seen) == 2
    for process in seen:
        wait_ended(process.pid)


def test_a_hook_that_hangs_afterwards_is_reported_and_the_next_one_runs(place, put, tmp_path):
    put("exec sleep 600", "1", "post-save")
    put("touch $NOTES/two", "2", "post-save")
    (said,) = Hooks(place, 2.0).run("post", "save", ABOUT)
    assert said.endswith("1 was killed: it did not end within 2 s")
    assert (tmp_path / "two").exists()


def test_a_hook_that_dies(hooks, put):
    put("echo oh >&2; kill -KILL $$")
    with pytest.raises(Forbidden, match=r"hook failed \(signal 9\): oh"):
        hooks.run("pre", "save", ABOUT)


def test_of_a_flood_the_last_words_are_kept(hooks, put):
    put("yes 0123456789 | head -n 300000 >&2; echo the end >&2; exit 1")
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value).endswith(": " + "0123456789; " * 7 + "the end")


def test_a_flood_without_end_is_ended(place, put):
    put("exec yes >&2")
    with pytest.raises(Forbidden, match="hook was killed"):
        Hooks(place, 0.5).run("pre", "save", ABOUT)


@pytest.mark.parametrize("daemon", ["sleep 600", "yes >&2"])
def test_what_a_hook_leaves_running_is_not_waited_for(hooks, put, tmp_path, daemon):
    put(f"{daemon} & echo $! >$NOTES/pids; echo started >&2; exit 1")
    with pytest.raises(Forbidden, match=r"hook failed \(exit status 1\): .*started|y; y"):
        hooks.run("pre", "save", ABOUT)
    for process in pids(tmp_path):
        if process:
            process.end()


def test_an_interrupt_ends_the_hook(place, put, tmp_path):
    put("echo $$ >$NOTES/pids.new; mv $NOTES/pids.new $NOTES/pids; exec sleep 600")
    seen = []

    def interrupt():
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        seen.extend(pids(tmp_path))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Hooks(place, 600.0).run("pre", "save", ABOUT)
    thread.join(20)
    wait_ended(seen[0].pid)


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupt_while_it_is_being_started_ends_it(place, put, monkeypatch, started):
    put("exec sleep 600")
    processes = []
    real = subprocess.Popen

    def popen(*arguments, **options):
        if not started:
            signal.raise_signal(signal.SIGINT)
        processes.append(real(*arguments, **options))
        signal.raise_signal(signal.SIGINT)
        return processes[0]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(KeyboardInterrupt):
        Hooks(place, 600.0).run("pre", "save", ABOUT)
    assert processes[0].returncode == -signal.SIGKILL


def test_a_hook_that_cannot_be_killed(hooks, put, monkeypatch):
    """As one that waits for a disk that does not answer: here, for want of it, no signal comes."""
    put("exec sleep 2")
    monkeypatch.setattr(os, "killpg", lambda _group, _number: None)
    monkeypatch.setattr(child, "END_TIMEOUT", 0.2)
    with pytest.raises(
        Forbidden, match=r"process \d+ is still there 0\.2 s after SIGKILL"
    ) as caught:
        Hooks(hooks.folder, 0.2).run("pre", "save", ABOUT)
    os.waitpid(int(str(caught.value).partition("process ")[2].split()[0]), 0)


# Those that are not to be trusted.


def spoil(path: Path, how: str) -> None:
    if how == "owner":
        as_root("chown", "12345", path)
    else:
        path.chmod(0o777)


WHY = {
    "owner": "is not run: it is owned by user 12345, not by root",
    "mode": "is not run: everyone may write to it (chmod o-w)",
}


@pytest.mark.parametrize("how", ["owner", "mode"])
@pytest.mark.parametrize("above", [0, 1, 2])
def test_what_others_could_have_written_is_not_run(hooks, put, tmp_path, how, above):
    hook = put("touch $NOTES/ran")
    spoiled = [hook, *hook.parents][above]
    spoil(spoiled, how)
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value) == f"{spoiled} {WHY[how]}"
    assert not (tmp_path / "ran").exists()


def test_a_link_is_as_good_as_what_it_leads_to(hooks, put, tmp_path):
    hook = put("touch $NOTES/ran")
    elsewhere = tmp_path / "elsewhere"
    hook.rename(elsewhere)
    hook.symlink_to(elsewhere)
    spoil(elsewhere, "mode")
    with pytest.raises(Forbidden, match="hook is not run: everyone may write to it"):
        hooks.run("pre", "save", ABOUT)


def test_one_that_is_not_trusted_afterwards_is_reported_and_the_next_one_runs(hooks, put, tmp_path):
    spoil(put("touch $NOTES/one", "1", "failed-save"), "mode")
    put("touch $NOTES/two", "2", "failed-save")
    (said,) = hooks.run("failed", "save", ABOUT)
    assert said.endswith(f"/1 {WHY['mode']}")
    assert ((tmp_path / "one").exists(), (tmp_path / "two").exists()) == (False, True)


@pytest.mark.parametrize(
    ("text", "why"), [("no program", "Exec format error"), ("#!/nowhere\n", "No such file")]
)
def test_what_is_no_program(hooks, put, text, why):
    put("").write_text(text)
    with pytest.raises(Forbidden, match=f"hook cannot be run: {why}"):
        hooks.run("pre", "save", ABOUT)


def test_a_file_in_the_place_of_the_folder(hooks, place):
    (place / "pre-save.d").touch()
    (place / "post-save.d").touch()
    with pytest.raises(Forbidden, match=r"pre-save.d: the hooks cannot be read: Not a directory"):
        hooks.run("pre", "save", ABOUT)
    (said,) = hooks.run("post", "save", ABOUT)
    assert said.endswith("post-save.d: the hooks cannot be read: Not a directory")


def test_a_hook_that_is_removed_by_the_one_before(hooks, put):
    second = put("", "2")
    put(f"rm {second}", "1")
    with pytest.raises(Forbidden, match="2 is not run: No such file or directory"):
        hooks.run("pre", "save", ABOUT)
