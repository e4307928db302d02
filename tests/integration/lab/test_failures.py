"""Real failures of real parts: xenqemu killed, QEMU killed, xenstored gone, disks full.

Each operation runs in a process of its own, which does what the test wants at one moment of it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.lab.guests import TIMEOUT, Guest, Host, at, wait
from tests.integration.moments import DIE, PROGRAM

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

MOMENTS = ("check done", "quiesce started", "quiesce done", "save progress", "verify started")
LATER = ("verify done", "publish started", "publish done", "release started", "release done")
KILLED = [
    *((option, moment) for option in (None, "-c") for moment in (*MOMENTS, *LATER)),
    *(("-p", moment) for moment in ("save progress", "release started", "publish started")),
]
"""Options of a save, and the moments when it is killed."""
FIRST = [KILLED.index((None, moment)) for moment in ("save progress", "publish done")]
"""Before its point of no return and behind it."""


def runs(host: Host, name: str) -> bool:
    return bool(host.status(name)["running"])


# kill -9 of xenqemu.


@pytest.mark.parametrize(
    ("option", "moment"),
    [
        pytest.param(*row, marks=[] if number in FIRST else pytest.mark.long)
        for number, row in enumerate(KILLED)
    ],
)
def test_save_is_killed_and_recovered(one, tiny, folder, option, moment):
    record = folder / "record"
    killed = at(one, moment, DIE, "save", *filter(None, [option]), "tiny", record)
    assert killed.code == -signal.SIGKILL
    told = one.run("recover", "tiny")
    assert told.code == 0, told
    assert one.must("recover") == "nothing was left unfinished\n"
    assert {each.name for each in folder.iterdir()} <= {"record"}
    names = [each["name"] for each in one.list()]
    if record.exists():
        one.must("verify", record)
        states = [each["state"] for each in one.list()]
        assert states == {None: [], "-c": ["running"], "-p": ["paused"]}[option]
        assert f"finished: the save file {record} is" in told.out
    else:
        assert names == ["tiny"]
        assert runs(one, "tiny")
        assert f"the save of domain {tiny.domid} (tiny) to {record}, interrupted in" in told.out
        assert "is rolled back" in told.out
    if not names:
        assert runs(one, one.restore(record).name)


@pytest.mark.parametrize("moment", ["check done", "build progress", "build done", "release done"])
def test_restore_is_killed_and_recovered(one, firmware_record, moment):
    killed = at(one, moment, DIE, "restore", firmware_record)
    assert killed.code == -signal.SIGKILL
    told = one.must("recover", "tiny")
    names = [each["name"] for each in one.list()]
    if moment == "release done":
        assert names == ["tiny"]
        assert runs(one, "tiny")
        assert "it is the guest now" in told
    else:
        assert names == []
        assert "is rolled back" in told
        assert one.empty()
        one.restore(firmware_record)


def test_restore_is_killed_before_qemu_is_noted(one, firmware_record):
    """The domain's process is found though nobody wrote down which it is."""
    patch = "from xenqemu.lab.plain_qemu import Machine; Machine.store = lambda *_: " + DIE
    killed = at(one, "check done", patch, "restore", firmware_record)
    assert killed.code == -signal.SIGKILL
    (domain,) = one.lab.guests.iterdir()

    def pids() -> list[int]:
        return [pid for pid, words in _commands() if any(str(domain) in word for word in words)]

    wait(
        lambda: bool(pids()), lambda: "no QEMU is there"
    )  # for a moment a new program has no command line yet
    (qemu,) = pids()
    one.must("recover")
    wait(lambda: not Path(f"/proc/{qemu}").exists(), lambda: "QEMU is there still")
    assert one.empty()


def _commands() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield int(entry.parent.name), entry.read_text(errors="replace").split("\0")
        except OSError:
            continue


def test_what_is_seen_of_a_killed_save(one, tiny, folder):
    at(one, "save progress", DIE, "save", "tiny", folder / "record")
    shown = one.must("status", "tiny")
    assert "was left unfinished: xenqemu recover tiny" in shown
    (operation,) = one.run("status", "--json", "tiny").good().json["operations"]
    assert (operation["verb"], operation["running"]) == ("save", False)
    refused = one.run("save", "tiny", folder / "second")
    assert refused.code == 3
    assert "left unfinished" in refused.err
    assert "xenqemu recover tiny" in refused.err
    one.must("recover", "--all")
    one.must("save", "tiny", folder / "second")


def test_linux_guest_goes_on_after_a_killed_save(guest, folder):
    host = guest.host
    at(host, "save progress", DIE, "save", guest.name, folder / "record")
    time.sleep(0.5)
    host.must("recover")
    guest.wait_tick()
    earlier = guest.said
    assert runs(host, guest.name)
    moved = guest.moved(host, folder / "record")
    moved.wait_tick()
    assert moved.said.startswith(earlier[:100])


# Cancel.


@pytest.mark.parametrize("how", ["cancel", "TERM", "INT"])
def test_a_save_is_cancelled(one, tiny, folder, how):
    seen = folder / "seen"
    act = f"open({str(seen)!r}, 'w').close(); import time; "
    act += (
        "from xenqemu.system.cancellation import *; wait_cancellable(lambda s: time.sleep(s), 30)"
    )
    command = [sys.executable, "-c", PROGRAM, "save progress", act, "--host", one.option]
    command += ["save", "tiny", str(folder / "record")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as saving:
        wait(seen.exists, lambda: "it never came so far")
        if how == "cancel":
            assert f"the save of domain {tiny.domid} (tiny)" in one.must("cancel", "tiny")
        else:
            saving.send_signal(getattr(signal, f"SIG{how}"))
        _, errors = saving.communicate(timeout=TIMEOUT)
    assert saving.returncode == (10 if how == "cancel" else 130)
    assert "the guest is as it was" in errors
    assert runs(one, "tiny")
    seen.unlink()
    assert list(folder.iterdir()) == []


def test_a_save_that_takes_too_long(one, tiny, folder):
    act = "import time; time.sleep(1.5)"
    done = at(one, "save started", act, "save", "--timeout", "1", "tiny", folder / "record")
    assert done.code == 10
    assert re.search(r"\(save\): the deadline of 1 s for all of it has passed", done.err)
    assert runs(one, "tiny")


# Two at once.


def test_two_saves_at_once(one, tiny, folder):
    commands = [one.command("save", "-c", "tiny", folder / name) for name in "ab"]
    both = [subprocess.Popen(each, stderr=subprocess.PIPE, text=True) for each in commands]
    errors = [each.communicate(timeout=TIMEOUT)[1] for each in both]
    codes = sorted(each.returncode for each in both)
    assert codes in ([0, 3], [0, 0])  # one may have ended before the other began
    if codes == [0, 3]:
        (told,) = filter(None, errors)
        assert re.search(
            r"the save of domain \d+ \(tiny\) to .*/[ab] is running \(process \d+", told
        )
    assert runs(one, "tiny")


def test_two_restores_at_once(one, firmware_record):
    both = [
        subprocess.Popen(one.command("restore", firmware_record), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [each.communicate(timeout=TIMEOUT)[1] for each in both]
    assert sorted(each.returncode for each in both) == [0, 3]
    (told,) = (error for each, error in zip(both, errors, strict=True) if each.returncode)
    assert re.search(r"is running \(process \d+|is named tiny already", told)
    assert [each["name"] for each in one.list()] == ["tiny"]


def test_a_guest_that_is_destroyed_while_it_is_saved(one, tiny, folder):
    act = "from pathlib import Path; from xenqemu.lab.lab_host import Lab; "
    act += f"Lab(Path({str(one.lab.folder)!r})).destroy({tiny.domid})"
    done = at(one, "quiesce done", act, "save", "tiny", folder / "record")
    assert done.code == 11
    assert f"domain {tiny.domid} is gone: it was destroyed, or ended, meanwhile" in done.err
    assert list(folder.iterdir()) == []
    assert one.list() == []
    assert one.must("recover") == "nothing was left unfinished\n"


# QEMU and xenstored.


@pytest.mark.parametrize("moment", ["check done", "quiesce started"])
def test_qemu_is_killed_before_it_is_saved(one, tiny, folder, moment):
    act = f"os.kill({tiny.machine.pid}, signal.SIGKILL)"
    done = at(one, moment, act, "save", "tiny", folder / "record")
    assert done.code == 11
    assert "is gone" in done.err
    assert list(folder.iterdir()) == []
    assert one.list() == []


@pytest.mark.parametrize("moment", ["quiesce done", "save progress", "verify started"])
def test_qemu_is_killed_once_its_state_is_known(one, tiny, folder, moment):
    """Its memory is a file, which is there still: nothing of the guest is lost."""
    act = f"os.kill({tiny.machine.pid}, signal.SIGKILL)"
    done = at(one, moment, act, "save", "tiny", folder / "record")
    assert done.code == 0, done.err
    assert runs(one, one.restore(folder / "record").name)


def test_qemu_hangs(one, tiny, folder):
    """It does not answer in time; once it does again, the guest runs on as it was."""
    conf = folder / "xenqemu.conf"
    conf.write_text("[deadlines]\nqemu_greeting = 1\nqemu_query = 1\nqemu_act = 1\nqemu_save = 1\n")
    os.kill(tiny.machine.pid, signal.SIGSTOP)
    try:
        done = one.run("--conf", conf, "save", "tiny", folder / "record")
    finally:
        os.kill(tiny.machine.pid, signal.SIGCONT)
    assert done.code == 3
    assert re.search(r"in 1 s|is stopped by a signal", done.err), done.err
    assert not (folder / "record").exists()
    wait(lambda: runs(one, "tiny"), lambda: str(one.status("tiny")))


@pytest.mark.parametrize("moment", ["check done", "verify started"])
def test_xenstored_dies(one, tiny, folder, moment):
    """Nothing is asked of it until the guest's nodes are to be removed."""
    pid = int((one.lab.folder / "xenstored.pid").read_text())
    act = f"os.kill({pid}, signal.SIGKILL)"
    done = at(one, moment, act, "save", "tiny", folder / "record")
    assert done.code == 12, done.err
    assert f"the save file {folder}/record is the guest now; left to do: 1. could not" in done.err
    one.must("lab", "up", one.lab.folder)
    assert "finished: the save file" in one.must("recover")
    assert one.list() == []
    assert runs(one, one.restore(folder / "record").name)


def test_xenstored_hangs(one, tiny, folder):
    conf = folder / "xenqemu.conf"
    conf.write_text("[deadlines]\nstore_request = 1\n")
    pid = int((one.lab.folder / "xenstored.pid").read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        done = one.run("--conf", conf, "save", "tiny", folder / "record")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert done.code == 3
    assert "did not answer within 1 s" in done.err
    assert runs(one, "tiny")


# Disks.


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of its own, of so many MiB."""
    place = folder / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "small", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


@pytest.fixture
def filled(tiny: Guest) -> Guest:
    """The same guest with 6 MiB of data in its memory, which its firmware does not look at."""
    with tiny.ram.open("r+b") as ram:
        ram.seek(8 << 20)
        ram.write(os.urandom(6 << 20))
    return tiny


def test_disk_that_is_too_small_by_each_megabyte(one, filled, folder):
    """Refused with both numbers before the guest is touched."""
    refused = 0
    for size in range(1, 10):
        with small_disk(folder, size) as disk:
            done = one.run("save", "-c", filled.name, disk / "record")
            if done.code == 0:
                one.must("verify", disk / "record")
                continue
            refused += 1
            found = re.search(
                r"(\d+) bytes of free space are needed for the save file, (\d+) are", done.err
            )
            assert (done.code, found is None) == (3, False), done
            assert int(found[1]) > int(found[2]) > (size - 1) << 20
            assert list(disk.iterdir()) == []
        assert runs(one, filled.name)
    assert 6 <= refused < 9


FILL = """
import xenqemu.system.free_space
with open({path!r}, "wb") as filler:
    try:
        filler.write(bytes({bytes}))
        filler.flush()
    except OSError:
        pass
"""
"""Somebody else fills the disk when the check is over."""


def test_what_was_set_aside_stays_ours(one, tiny, folder):
    with small_disk(folder, 24) as disk:
        act = FILL.format(path=str(disk / "filler"), bytes=24 << 20)
        done = at(one, "save started", act, "save", "tiny", disk / "record")
        assert done.code == 0, done.err
        one.must("verify", disk / "record")
        (folder / "record").write_bytes((disk / "record").read_bytes())
    one.restore(folder / "record")


def test_disk_that_fills_up_at_each_megabyte(one, filled, folder):
    """Where no space can be reserved: the write fails, the older save file and the guest stay."""
    codes = []
    for left in range(1, 9):
        with small_disk(folder, 24) as disk:
            (disk / "record").write_bytes(b"older")
            act = FILL.format(path=str(disk / "filler"), bytes=(24 - left) << 20)
            done = at(one, "save started", act, "save", "-c", filled.name, disk / "record", room=0)
            codes.append(done.code)
            if done.code == 0:
                one.must("verify", disk / "record")
                continue
            assert "No space left on device; the guest is as it was" in done.err
            assert sorted(each.name for each in disk.iterdir()) == ["filler", "record"]
            assert (disk / "record").read_bytes() == b"older"
        assert runs(one, filled.name)
    assert codes == [10] * 6 + [0] * 2


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("writev:error=EIO:when=9+", 10),  # the first ones are the journal's
        ("fsync:error=EIO:when=8+", 10),
        ("ftruncate:error=EIO", 10),
        ("renameat:error=EIO", 10),
        ("linkat:error=EIO:when=2+", 10),  # the first one is a trial
        ("linkat:error=EPERM", 3),  # as on FAT, which has no hard links
        ("fallocate:error=ENOSPC", 3),
        ("fallocate:error=EDQUOT", 3),
        ("rename:error=EIO", 3),  # the journal's, before anything was touched
    ],
)
def test_system_calls_that_fail(one, tiny, folder, fault, code):
    """Errors of the disk where it is synced and where the save file gets its name, by strace."""
    (folder / "record").write_bytes(b"older")
    inject = ["strace", "-f", "-o", "/dev/null", "-e", f"inject={fault}"]
    command = [*inject, *one.command("save", "tiny", folder / "record")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == code, done
    why = "Input/output error|the file system has no more|the quota|may not support hard links"
    assert re.search(why, done.stderr)
    assert [each.name for each in folder.iterdir()] == ["record"]
    assert (folder / "record").read_bytes() == b"older"
    assert one.run("recover").code == 0
    assert runs(one, "tiny")


def test_targets_that_take_no_record(one, tiny, folder):
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("elsewhere")
    for target, code, words in (
        ("/dev/full", 64, "is a device"),
        (folder / "fifo", 3, "others may read from"),
        (folder / "link", 64, "is a symbolic link"),
        (folder, 64, "is a folder"),
        (folder / "no" / "record", 3, "No such file or directory"),
        ("/proc/record", 3, "cannot create a file"),
    ):
        done = one.run("save", "tiny", target)
        assert (done.code, words in done.err) == (code, True), done
    assert runs(one, "tiny")
    assert json.loads(one.must("status", "--json", "tiny"))["operations"] == []
