"""A dom0 that reboots: two boots of the host with one disk, and its guests on both."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.integration.xen.bed import Bed, assert_goes_on, saved_ticks
from tests.integration.xen.hosts import ON_417, Boots

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(900)]

XENQEMU = "python3 -m xenqemu --host xen"
GUESTS = ("hvm", "pvh", "pv")
RECORDS = "/var/lib/xen/save"


def became(printed: str) -> dict[str, str]:
    told = [json.loads(line) for line in printed.splitlines()]
    return {each["name"]: each["outcome"] for each in told if "name" in each}


def test_guests_outlive_a_reboot_of_their_host(boot: Boots, tmp_path: Path) -> None:
    """Three are saved; the save file of one is damaged then: two run, and that one is reported."""
    disk = tmp_path / "disk.img"
    with disk.open("wb") as image:
        image.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    mount = f"mkdir -p {RECORDS} && mount /dev/vdb {RECORDS} && rmdir {RECORDS}/lost+found"

    bed = boot("4.17", disk)
    bed.must(mount)
    for name in GUESTS:
        bed.restore(name)
        bed.wait_ticks(name, beyond=saved_ticks(name))
    said = bed.must(f"{XENQEMU} save-all --json", timeout=300)
    assert became(said) == dict.fromkeys(GUESTS, "saved")
    assert bed.must("xl list | wc -l") == "2\n"
    assert bed.must(f"ls -A {RECORDS}").split() == sorted(GUESTS)
    before = {name: bed.ticks(name) for name in GUESTS}
    bed.must(f"truncate -s -4096 {RECORDS}/pv && umount {RECORDS}")

    bed = boot("4.17", disk)
    bed.must(mount.partition(" && rmdir")[0])
    done = bed.run(f"{XENQEMU} restore-all --json", timeout=300)
    assert (done.rc, done.err.split()[-1]) == (3, "pv")
    assert became(done.out) == {"hvm": "restored", "pvh": "restored", "pv": "failed"}
    for name in ("hvm", "pvh"):
        assert_goes_on(before[name], bed.wait_ticks(name, beyond=before[name]))
    assert bed.must(f"ls -A {RECORDS}") == "pv\n"
    assert bed.run("xl domid pv").rc == 1


@ON_417
def test_guests_are_left_alone_or_shut_down_as_the_settings_say(bed: Bed) -> None:
    for name in ("hvm", "pvh", "pv"):
        bed.restore(name)
        bed.wait_ticks(name, beyond=saved_ticks(name))
    bed.must("mkdir /tmp/auto")
    guest = 'name = "pvh"\\ntype = "pvh"\\nkernel = "x"\\non_host_shutdown = "leave"\\n'
    bed.must(f"printf '{guest}' >/tmp/auto/pvh")
    bed.put(
        "conf",
        """
        xendomains = ""
        save_all.folder = "/tmp/records"
        save_all.configs = "/tmp/auto"
        save_all.shut_down = ["pv"]
        """,
    )
    domid = bed.domid("pv")
    said = bed.must(f"{XENQEMU} --conf /job/conf save-all --json", timeout=300)
    assert became(said) == {"hvm": "saved", "pvh": "left alone", "pv": "shut down"}
    bed.wait_ticks("pvh")
    assert bed.must("xl list | awk 'NR > 2 { print $1 }'") == "pvh\n"
    assert bed.must("ls -A /tmp/records") == "hvm\n"
    assert f"Domain {domid} has shut down, reason code 0" in bed.must("cat /var/log/xen/xl-pv.log")
