"""Failures on a real Xen host: where is the guest afterwards, and what is its user told?"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.integration.moments import DIE
from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, at, begin, goes_on
from tests.integration.xen.saves import is_killed_and_recovered

pytestmark = [pytest.mark.xen, pytest.mark.long, ON_417, pytest.mark.timeout(900)]

MOMENTS = ("quiesce started", "quiesce done", "save progress", "verify started", "publish started")


def listed(bed: Bed) -> str:
    """What `xl list` says of all guests."""
    return bed.must("xl list | tail -n +3")


def test_xenqemu_is_killed_at_every_phase(bed: Bed) -> None:
    begin(bed, "pvh")
    for moment in MOMENTS:
        is_killed_and_recovered(bed, moment)
    before = bed.ticks("pvh")
    assert at(bed, "release started", DIE, "save", "pvh", FILE).rc == -9
    assert "pvh" in listed(bed)
    assert bed.run(f"{XENQEMU} restore {FILE}", timeout=120).rc == 3
    assert f"finished: the save file {FILE} is the guest now" in bed.must(f"{XENQEMU} recover")
    assert listed(bed) == ""
    for moment in ("build progress", "build done"):
        assert at(bed, moment, DIE, "restore", FILE).rc == -9
        bed.must(f"{XENQEMU} recover --all", timeout=120)
        bed.must("until [ $(xl list | wc -l) = 2 ]; do sleep 0.2; done", timeout=60)
    bed.must(f"{XENQEMU} restore {FILE}", timeout=120)
    goes_on(bed, "pvh", before)


@pytest.fixture
def idle(bed: Bed, tmp_path: Path) -> int:
    """A guest that never hears of any request; its domid."""
    source = Path(__file__).with_name("idle.S")
    subprocess.run(["as", "--32", "-o", tmp_path / "idle.o", source], check=True)
    link = ["ld", "-m", "elf_i386", "-Ttext", "0x100000", "--section-start=.note.Xen=0x101000"]
    subprocess.run([*link, "-e", "entry", "-o", tmp_path / "idle", tmp_path / "idle.o"], check=True)
    kernel = bed.put("idle", tmp_path / "idle")
    bed.must(f'xl create -q /dev/null \'type="pvh";name="idle";memory=32;kernel="{kernel}"\'')
    return bed.domid("idle")


SUSPEND_LATE = """
import threading
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.library import Xen
def late():
    time.sleep({after})
    with Xen() as xen:
        Control(xen).shutdown({domid}, 2)
threading.Thread(target=late, daemon=True).start()
"""
"""What a guest does that takes its time."""


def test_guest_that_ignores_the_request(bed: Bed, idle: int) -> None:
    bed.put("xenqemu.conf", "[deadlines]\nlate = 1\n")
    conf = f"{XENQEMU} --conf /job/xenqemu.conf"
    done = bed.run(f"{conf} save --step-timeout 5 idle {FILE}", timeout=120)
    assert done.rc == 10
    waited = re.search(r"after ([\d.]+) s, so the request was withdrawn", done.err)
    assert waited, done.err
    assert float(waited[1]) >= 5
    assert "as it was" in done.err
    assert bed.must(f"xenstore-read /local/domain/{idle}/control/shutdown") == "\n"
    assert bed.run(f"ls {FILE}").rc == 2
    assert "running" in bed.must(f"{XENQEMU} status idle", timeout=60)


def test_guest_that_suspends_late(bed: Bed, idle: int) -> None:
    act = SUSPEND_LATE.format(domid=idle, after=5)
    done = at(bed, "quiesce started", act, "save", "--step-timeout", "3", "idle", FILE)
    assert done.rc == 10
    assert "the request was withdrawn; the guest is as it was" in done.err
    assert "running" in bed.must(f"{XENQEMU} status idle", timeout=60)
    assert "---s" not in listed(bed)


def test_request_of_a_killed_save_is_taken_back(bed: Bed, idle: int) -> None:
    save = bed.start(f"{XENQEMU} save idle {FILE}")
    node = f"/local/domain/{idle}/control/shutdown"
    bed.must(f'until [ "$(xenstore-read {node})" = suspend ]; do sleep 0.1; done', timeout=60)
    save.kill()
    save.wait()
    told = bed.must(f"{XENQEMU} recover idle", timeout=120)
    assert "is rolled back" in told
    assert bed.must(f"xenstore-read {node}") == "\n"
    assert bed.must(f"{XENQEMU} recover") == "nothing was left unfinished\n"


def test_a_save_of_xl_beside_us(bed: Bed, idle: int) -> None:
    save = bed.start(f"xl save idle {FILE}")
    node = f"/local/domain/{idle}/control/shutdown"
    bed.must(f'until [ "$(xenstore-read {node})" = suspend ]; do sleep 0.1; done', timeout=60)
    done = bed.run(f"{XENQEMU} save idle {FILE}.ours", timeout=60)
    assert done.rc == 3
    assert re.search(r"is in use by process \d+ \(\S*xl save idle", done.err), done.err
    save.kill()
    save.wait()


def test_xenstored_stops_for_a_while(bed: Bed) -> None:
    begin(bed, "firmware")
    pid = bed.must("cat /run/xen/xenstored.pid").strip()
    stop = (
        f"os.kill({pid}, signal.SIGSTOP); subprocess.Popen('sleep %d; kill -CONT {pid}', shell=1)"
    )
    done = at(bed, "quiesce started", stop % 3, "save", "-c", "firmware", FILE)
    assert done.rc == 0, done.err
    bed.put("xenqemu.conf", "[deadlines]\nstore_request = 1\n")
    conf = "--conf", "/job/xenqemu.conf"
    done = at(bed, "quiesce started", stop % 6, *conf, "save", "firmware", f"{FILE}.second")
    assert done.rc in (10, 11), done.err
    assert "did not answer within 1 s" in done.err
    bed.must("sleep 6")
    bed.must(f"{XENQEMU} recover", timeout=60)
    assert "hypervisor: running" in bed.must(f"{XENQEMU} status firmware", timeout=60)
    goes_on(bed, "firmware", bed.ticks("firmware"))
    assert bed.run(f"ls {FILE}.second").rc == 2


def test_disk_that_is_too_small(bed: Bed) -> None:
    begin(bed, "firmware")
    bed.must("mkdir -p /tmp/small && mount -t tmpfs -o size=512k small /tmp/small")
    done = bed.run(f"{XENQEMU} save firmware /tmp/small/record", timeout=60)
    bed.must("ls -A /tmp/small | wc -l | grep -x 0; umount /tmp/small")
    assert done.rc == 3
    assert re.search(
        r"\d{7} bytes of free space are needed for the save file, \d{6} are", done.err
    ), done.err
    goes_on(bed, "firmware", bed.ticks("firmware"))


def test_qemu_is_killed(bed: Bed) -> None:
    begin(bed, "firmware")
    domid = bed.domid("firmware")
    pid = bed.must(f"xenstore-read /local/domain/{domid}/image/device-model-pid").strip()
    bed.put("xenqemu.conf", "[deadlines]\nlate = 1\n")
    words = "--conf", "/job/xenqemu.conf", "save", "--step-timeout", "10", "firmware", FILE
    done = at(bed, "quiesce started", f"os.kill({pid}, 9)", *words)
    assert bed.run(f"ls {FILE}").rc == 2
    bed.must("xl destroy firmware", timeout=60)
    if "did not suspend" in done.err:  # a vcpu that waits for its QEMU never stands still
        assert done.rc == 10, done.err
    else:
        assert done.rc == 11, done.err
        assert "left to do: 1. could not continue the device model" in done.err, done.err
        assert "is gone" in bed.must(f"{XENQEMU} recover", timeout=60)
