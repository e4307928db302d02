"""Hooks: real programs that obey, forbid, hang, die, flood and are not to be trusted."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.as_root import as_root
from tests.doubles.system.processes import has_ended, running, wait_ended
from xenqemu.errors import Forbidden
from xenqemu.settings import hooks as hooks_module
from xenqemu.settings.hooks import Hooks
from xenqemu.system import contained
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
@pytest.mark.parametrize("act", ["save", "restore", "migrate", "receive"])
def test_a_hook_is_told_what_is_done(hooks, put, tmp_path, moment, act):
    put("cat >$NOTES/told", moment=f"{moment}-{act}")
    assert hooks.run(moment, act, ABOUT) == ()
    assert json.loads((tmp_path / "told").read_text()) == {"moment": moment, "act": act, **ABOUT}
    assert [path.name for path in tmp_path.iterdir() if path.name != "hooks.d"] == ["told"]


OTHERS = ("x.sh", "x y", "x~", "#x#", ".x.swp", "x.dpkg-old", ".x", "README", "README.md")


def test_hooks_run_in_the_order_of_their_names_and_as_run_parts_names_them(hooks, put, tmp_path):
    for name in ("20-b", "10_a", "B", "a", "9", *OTHERS):
        put('echo "${0##*/}" >>$NOTES/ran', name)
    put("", "not-executable").chmod(0o644)
    (put("", "folder").parent / "sub").mkdir()
    (put("", "linked").parent / "link").symlink_to(put("echo link >>$NOTES/ran", "l.target"))
    assert hooks.run("pre", "save", ABOUT) == ()
    ran = (tmp_path / "ran").read_text().split()
    assert ran == ["10_a", "20-b", "9", "B", "a", "link"]


# Those that do not run.


NAMES = 'its name has more than letters, digits, "_" and "-"'


def test_what_is_not_run_is_told_with_the_reason(hooks, put):
    folder = put("", "good").parent
    for name in OTHERS:
        put("exit 1", name)
    (folder / "sub").mkdir()
    put("exit 1", "quiet").chmod(0o644)
    put("exit 1", "later.sh", "failed-save")
    put("exit 1", "other.sh", "pre-restore")
    os.mkfifo(folder / "pipe", 0o700)
    (folder / "linked").symlink_to(put("", "target.py"))
    (folder / "zero").symlink_to("/dev/zero")
    assert hooks.passed_over("save") == [
        f"{folder}/pipe is not run: it is no regular file",
        f"{folder}/quiet is not run: it is not executable (chmod +x)",
        f"{folder}/target.py is not run: {NAMES}",
        f"{folder}/x y is not run: {NAMES}",
        f"{folder}/x.sh is not run: {NAMES}",
        f"{folder}/zero is not run: it is no regular file",
        f"{folder.parent}/failed-save.d/later.sh is not run: {NAMES}",
    ]
    assert hooks.run("pre", "save", ABOUT) == ()


def test_what_is_in_no_folder_of_hooks_is_told(hooks, place, put):
    for moment in ("pre-save", "post-receive", "failed-migrate"):
        put("", "10", moment)
    put("exit 1", "10", "pre-saved")
    put("exit 1", "10", "pre-save").rename(place / "10-mine")
    (place / "README").touch()
    (place / ".git").mkdir()
    where = f"hooks are in the folders that {place}/README names"
    assert hooks.passed_over("migrate") == [
        f"{place}/10-mine is not run: {where}",
        f"{place}/pre-saved.d is not run: {where}",
    ]


def test_a_folder_that_is_not_there_is_told_if_somebody_chose_it(tmp_path):
    chosen = Hooks(tmp_path / "hook.d")
    assert chosen.passed_over("save") == [f"{tmp_path}/hook.d: there is no such folder of hooks"]
    assert Hooks(hooks_module.FOLDER).folder == Hooks().folder


def test_a_hook_that_leads_nowhere_forbids(hooks, put):
    link = put("", "10").parent / "20"
    link.symlink_to("/nowhere/at/all")
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value) == f"{link} is not run: /nowhere: No such file or directory"


@pytest.mark.parametrize("target", ["/nowhere", "pre-save.d"])
def test_a_folder_that_leads_nowhere_forbids(hooks, place, target):
    (place / "pre-save.d").symlink_to(target)
    with pytest.raises(Forbidden, match=r"pre-save\.d: the hooks cannot be read: "):
        hooks.run("pre", "save", ABOUT)
    assert hooks.passed_over("save") == []


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
    with pytest.raises(Forbidden, match=r"hook was killed: it did not end within 4 s"):
        Hooks(place, 4.0).run("pre", "save", ABOUT)
    looking.join(20)
    assert len(seen) == 2
    for process in seen:
        wait_ended(process.pid)


def test_a_hook_that_hangs_afterwards_is_reported_and_the_next_one_runs(place, put, tmp_path):
    put("exec sleep 600", "1", "post-save")
    put("touch $NOTES/two", "2", "post-save")
    (said,) = Hooks(place, 8.0).run("post", "save", ABOUT)
    assert said.endswith("1 was killed: it did not end within 8 s")
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


DAEMONS = {
    "in its session": "sleep 600 & echo $! >$NOTES/pids",
    "loud": "yes >&2 & echo $! >$NOTES/pids",
    "in a session of its own": "setsid sh -c 'echo $$ >$NOTES/pids; exec sleep 600' &",
    "an orphan": "(setsid sh -c 'sh -c \"echo \\$\\$ >$NOTES/pids; exec sleep 600\" &' &)",
    "deaf": "setsid sh -c 'trap \"\" TERM HUP; echo $$ >$NOTES/pids; while :; do sleep 9; done' &",
    "stopped": "setsid sh -c 'echo $$ >$NOTES/pids; kill -STOP $$' &",
    "closed": "setsid sh -c 'echo $$ >$NOTES/pids; exec sleep 600 <&- >&- 2>&-' &",
}
"""What a hook may leave running, which notes its id."""

ONCE = "until [ -s $NOTES/pids ]; do sleep 0.01; done"


@pytest.mark.parametrize("daemon", DAEMONS.values(), ids=DAEMONS)
def test_what_a_hook_has_started_ends_with_it(hooks, put, tmp_path, daemon):
    put(f"export NOTES\n{daemon}\n{ONCE}")
    assert hooks.run("pre", "save", ABOUT) == ()
    (daemon,) = map(int, (tmp_path / "pids").read_text().split())
    assert has_ended(daemon)


@pytest.mark.parametrize("end", ["exit 1", "sleep 600", "kill -9 $$"])
def test_so_it_does_when_the_hook_fails_or_hangs_or_dies(place, put, tmp_path, end):
    put(f"export NOTES\n{DAEMONS['an orphan']}\n{ONCE}\n{end}")
    with pytest.raises(Forbidden):
        Hooks(place, 8.0 if end == "sleep 600" else 20.0).run("pre", "save", ABOUT)
    (daemon,) = map(int, (tmp_path / "pids").read_text().split())
    assert has_ended(daemon)


def test_a_hook_that_breeds_is_ended(place, put, tmp_path):
    """Each child leaves its parent and the session before it has one itself."""
    put(
        "echo 'sleep 0.02; setsid $0 & echo $$ >>$NOTES/pids' >$NOTES/bred\n"
        "export NOTES; chmod +x $NOTES/bred; setsid sh $NOTES/bred\nsleep 0.5"
    )
    bred = tmp_path / "bred"
    assert Hooks(place, 20.0).run("pre", "save", ABOUT) == ()
    assert bred.exists()
    noted = (tmp_path / "pids").read_text()
    time.sleep(0.2)
    assert (tmp_path / "pids").read_text() == noted


def test_a_hook_may_end_its_process_group(hooks, put):
    put("trap 'trap \"\" TERM; kill 0' EXIT; sleep 600 & echo bye >&2; exit 3")
    with pytest.raises(Forbidden, match=r"hook failed \(exit status 3\): bye"):
        hooks.run("pre", "save", ABOUT)


def test_others_are_not_ended_with_a_hook(hooks, put):
    """Children of ours, and what they leave to whoever takes orphans."""
    left = subprocess.run(
        ["sh", "-c", "setsid sleep 600 >&- 2>&- & echo $!"], capture_output=True, check=True
    )
    with running("sleep", "600") as ours:
        put("exit 0")
        hooks.run("pre", "save", ABOUT)
        assert not has_ended(ours.pid)
    orphan = Process.of(int(left.stdout))
    assert orphan.alive
    orphan.end()


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
    assert processes[0].returncode == 0  # it has seen to the end of all else


def test_a_second_interrupt_does_not_keep_the_hook_from_its_end(place, put, tmp_path):
    put("setsid sleep 600 & echo $! >$NOTES/pids.new; mv $NOTES/pids.new $NOTES/pids; wait")

    def interrupt():
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
        for _ in range(3):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.002)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        try:
            Hooks(place, 600.0).run("pre", "save", ABOUT)
        finally:
            thread.join(20)
    assert has_ended(int((tmp_path / "pids").read_text()))


def test_the_hook_of_a_command_that_is_killed_ends(place, put, tmp_path):
    put("setsid sleep 600 & echo $$ $! >$NOTES/pids.new; mv $NOTES/pids.new $NOTES/pids; wait")
    act = f"Hooks(Path({str(place)!r})).run('pre', 'save', {{}})"
    text = f"from pathlib import Path; from xenqemu.settings.hooks import Hooks; {act}"
    with running(sys.executable, "-c", text) as command:
        while not (tmp_path / "pids").exists():
            time.sleep(0.01)
    assert command.returncode == -signal.SIGKILL
    for pid in (tmp_path / "pids").read_text().split():
        wait_ended(int(pid))


def test_a_hook_that_cannot_be_ended(hooks, put, monkeypatch, tmp_path):
    """As one that waits for a disk that does not answer: here it stops what is to kill it."""
    put("echo $$ >$NOTES/pids; kill -STOP $PPID; exec sleep 600")
    monkeypatch.setattr(contained, "END_TIMEOUT", 0.5)
    with pytest.raises(
        Forbidden, match=r"hook, or what it has started, is still there 0\.5 s after SIGKILL$"
    ):
        Hooks(hooks.folder, 8.0).run("pre", "save", ABOUT)
    (left,) = pids(tmp_path)
    left.end()


# Those that are not to be trusted.


def spoil(path: Path, how: str) -> None:
    if how == "owner":
        as_root("chown", "12345", path)
    else:
        path.chmod(0o777 if how == "mode" else 0o775)


WHY = {
    "owner": "{} is owned by user 12345, who could change it",
    "mode": "others may write to {} (chmod go-w)",
    "group": "others may write to {} (chmod g-w)",
}


@pytest.mark.parametrize("how", WHY)
@pytest.mark.parametrize("above", [0, 1, 2, 3])
def test_what_others_could_have_written_is_not_run(hooks, put, tmp_path, how, above):
    hook = put("touch $NOTES/ran")
    spoiled = [hook, *hook.parents][above]
    spoil(spoiled, how)
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    what = f"the hooks in {hook.parent} are" if above else f"{hook} is"
    assert str(caught.value) == f"{what} not run: {WHY[how].format(spoiled)}"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", WHY)
@pytest.mark.parametrize("where", ["its folder", "itself"])
def test_a_link_is_as_good_as_what_it_leads_to(hooks, put, tmp_path, how, where):
    hook = put("touch $NOTES/ran")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    hook.rename(elsewhere / "program")
    hook.symlink_to(elsewhere / "program")
    assert hooks.run("pre", "save", ABOUT) == ()
    spoiled = elsewhere if where == "its folder" else elsewhere / "program"
    spoil(spoiled, how)
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value) == f"{hook} is not run: {WHY[how].format(spoiled)}"


def test_one_that_is_not_trusted_afterwards_is_reported_and_the_next_one_runs(hooks, put, tmp_path):
    spoiled = put("touch $NOTES/one", "1", "failed-save")
    spoil(spoiled, "mode")
    put("touch $NOTES/two", "2", "failed-save")
    (said,) = hooks.run("failed", "save", ABOUT)
    assert said.endswith(WHY["mode"].format(spoiled))
    assert ((tmp_path / "one").exists(), (tmp_path / "two").exists()) == (False, True)


CR = r"its interpreter '/bin/sh\r' is missing, because the line ends in CR LF"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no program", 'Exec format error: it does not begin with "#!"'),
        ("", "Exec format error"),
        (
            "\ufeff#!/bin/sh\n",
            'Exec format error: it begins with a byte order mark, not with "#!"',
        ),
        ("#!/nowhere -x\n", "No such file or directory: its interpreter is /nowhere"),
        ("#! /etc/passwd\n", "Permission denied: its interpreter is /etc/passwd"),
        ("#!/bin/sh\r\nexit 0\r\n", f"No such file or directory: {CR}"),
    ],
)
def test_what_is_no_program(hooks, put, text, why):
    hook = put("")
    hook.write_bytes(text.encode())
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert str(caught.value) == f"{hook} cannot be run: {why}"


@pytest.mark.parametrize(
    ("text", "status", "gets"),
    [("#!/usr/bin/env sh", 127, r"'sh\r'"), ("#!/bin/sh -e", 2, r"'-e\r'")],
)
def test_an_interpreter_that_does_not_understand_cr(hooks, put, text, status, gets):
    put("").write_bytes(f"{text}\r\nexit 0\r\n".encode())
    with pytest.raises(Forbidden) as caught:
        hooks.run("pre", "save", ABOUT)
    assert f"hook failed (exit status {status}): " in str(caught.value)
    why = f"; its interpreter gets {gets}, because the line ends in CR LF"
    assert str(caught.value).endswith(why)


def test_a_hook_that_removes_itself_and_fails(hooks, put):
    put("rm $0; exit 1")
    with pytest.raises(Forbidden, match=r"hook failed \(exit status 1\): no reason given$"):
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
    with pytest.raises(Forbidden, match="2 is not run: .*/2: No such file or directory"):
        hooks.run("pre", "save", ABOUT)
