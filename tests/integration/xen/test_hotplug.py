"""Guests whose disk and network card are connected by our scripts, on real Xen hosts."""

from __future__ import annotations

import pytest

from tests.integration.xen.bed import ROOT, Bed, assert_goes_on
from tests.integration.xen.devices import (
    BLOCK,
    VIF,
    keeps_its_disk_and_its_network,
    left,
)
from tests.integration.xen.hosts import ON_417, ON_420

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(900)]


@ON_417
def test_a_pv_guest_keeps_its_disk_and_its_network(bed: Bed, disk: str) -> None:
    keeps_its_disk_and_its_network(bed, disk, "pv")


@ON_420
def test_a_guest_keeps_its_disk_and_its_network_on_the_newest_xen(bed: Bed, disk: str) -> None:
    keeps_its_disk_and_its_network(bed, disk, "pvh")


def firmware(bed: Bed, *devices: str) -> str:
    """Write the file of a guest that is firmware and what it boots from the first disk."""
    text = (ROOT / "scripts/xenbed.d/guests/firmware.cfg").read_text()
    return bed.put("firmware.cfg", "\n".join([text, *devices]))


@ON_417
def test_an_emulated_card_has_both_its_ends(bed: Bed, disk: str) -> None:
    bed.must(f"cp /guests/disk.img {disk}")
    drive = f'disk = [ "format=raw,vdev=hda,access=rw,script={BLOCK},target={disk}" ]'
    card = f'vif = [ "type=ioemu,model=e1000,bridge=xenbr0,mtu=1400,vifname=web,script={VIF}" ]'
    bed.must(f"xl create -q {firmware(bed, drive, card)}", timeout=180)
    for act in ("xl save firmware /tmp/save && xl restore /tmp/save", "true"):
        links = bed.must("ip -o link show master xenbr0")
        assert sorted(line.split()[1].rstrip(":") for line in links.splitlines()) == [
            *("web", "web-emu")
        ]
        assert links.count("mtu 1400") == 2
        domid = bed.domid("firmware")
        pid = bed.must(f"xenstore-read /local/domain/{domid}/image/device-model-pid").strip()
        assert "/dev/loop" in bed.must(f"ls -l /proc/{pid}/fd")
        bed.wait_ticks("firmware", timeout=180)  # it boots, on a machine that may be busy
        bed.must(act, timeout=240)
    bed.must("xl destroy firmware", timeout=60)
    assert left(bed) == ""


@ON_417
@pytest.mark.parametrize(
    ("devices", "why"),
    [
        (
            f'disk = [ "format=raw,vdev=hda,script={BLOCK},target=/tmp/none.img" ]',
            "script: /tmp/none.img: No such file or directory",
        ),
        (
            f'disk = [ "format=raw,vdev=hda,script={BLOCK},target=/dev/null" ]',
            "script: /dev/null is neither a file",
        ),
        (f'vif = [ "bridge=xenbr9,script={VIF}" ]', "script: there is no bridge 'xenbr9'"),
        (
            f'vif = [ "bridge=xenbr0,vifname=a/b,script={VIF}" ]',
            "script: vifname 'a/b' is not a valid name of a network interface",
        ),
        (
            f'vif = [ "bridge=xenbr0,gatewaydev=eth9,script={VIF}" ]',
            "script: there is no gateway eth9",
        ),
    ],
)
def test_why_a_device_cannot_be_had(bed: Bed, disk: str, devices: str, why: str) -> None:
    """libxl tells it in its own words, and takes all of the guest away again."""
    drive = f'disk = [ "format=raw,vdev=hda,access=rw,script={BLOCK},target={disk}" ]'
    cfg = firmware(bed, *([devices] if "disk" in devices else [drive, devices]))
    done = bed.run(f"xl create -q {cfg}", timeout=180)
    assert done.rc != 0
    assert why in done.err, done.err
    assert bed.must("xl list | wc -l") == "2\n"
    assert left(bed) == ""
    assert bed.must(f"ls {disk}*") == f"{disk}\n"


@ON_417
def test_disks_that_come_and_go_at_once(bed: Bed, disk: str) -> None:
    drives = []
    for letter in "abcde":
        bed.must(f"truncate -s 1M /tmp/{letter}.img")
        drives.append(f'"format=raw,vdev=xvd{letter},script={BLOCK},target=/tmp/{letter}.img"')
    cfg = firmware(bed, f"disk = [ {', '.join(drives)} ]")
    bed.must(f"xl create -q -p {cfg}", timeout=180)
    assert len(bed.must("losetup -l -n").splitlines()) == 5
    assert len(bed.must("ls /tmp/*.xenqemu-lease").splitlines()) == 5
    bed.must("xl destroy firmware", timeout=120)
    assert left(bed) == ""
    assert bed.run("ls /tmp/*.xenqemu-lease").rc != 0


SIX = "bcdefg"
AT_ONCE = """
pids=
for letter in {letters}; do {command} & pids="$pids $!"; done
for pid in $pids; do wait $pid || exit 1; done
"""


@ON_417
def test_disks_that_are_plugged_in_and_out_at_once(bed: Bed, disk: str) -> None:
    """Each has a loop device of its own; in the end none is left, nor a lease or a lock.

    With more of them than six, one emulated processor is not done in the 40 s that libxl gives;
    tests/unit/hotplug has twenty.
    """
    bed.must(f"cp /guests/disk.img {disk}")
    drive = f'disk = [ "format=raw,vdev=hda,access=rw,script={BLOCK},target={disk}" ]'
    bed.must(f"xl create -q {firmware(bed, drive)}", timeout=180)
    before = bed.wait_ticks("firmware")
    bed.must(f"for letter in {' '.join(SIX)}; do truncate -s 1M /tmp/$letter.img; done")
    backend = f"/local/domain/0/backend/vbd/{bed.domid('firmware')}"

    def all_at_once(command: str) -> None:
        bed.must(AT_ONCE.format(letters=" ".join(SIX), command=command), timeout=300)

    what = f"format=raw,vdev=xvd$letter,access=rw,script={BLOCK},target=/tmp/$letter.img"
    all_at_once(f"xl block-attach firmware {what}")
    files = bed.must("losetup -l -n -O BACK-FILE").splitlines()
    assert sorted(files) == sorted([disk, *(f"/tmp/{letter}.img" for letter in SIX)])
    connected = f"xenstore-ls -f {backend} | grep -c 'hotplug-status = \"connected\"'"
    assert bed.must(connected) == f"{1 + len(SIX)}\n"
    numbers = bed.must(f"xenstore-ls -f {backend} | sed -n 's/.*physical-device = //p' | sort -u")
    assert len(numbers.splitlines()) == 1 + len(SIX)

    all_at_once("xl block-detach --force firmware xvd$letter")
    assert bed.must("losetup -l -n -O BACK-FILE") == f"{disk}\n"
    assert bed.must(f"xenstore-list {backend} | wc -l") == "1\n"
    assert bed.must("ls /tmp/*.xenqemu-lease*") == f"{disk}.xenqemu-lease\n"
    assert bed.must("ls /run/xenqemu/hotplug") == ""
    assert_goes_on(before, bed.wait_ticks("firmware", beyond=before))
    bed.must("xl destroy firmware", timeout=60)
    assert left(bed) == ""


@ON_417
def test_a_disk_that_is_plugged_into_a_guest(bed: Bed, disk: str) -> None:
    bed.must(f"xl create -q {firmware(bed, 'disk = []')}", timeout=180)
    bed.must(f"xl block-attach firmware format=raw,vdev=xvdb,script={BLOCK},target={disk}")
    assert len(bed.must("losetup -l -n").splitlines()) == 1
    bed.must("xl block-detach --force firmware xvdb", timeout=120)
    assert bed.must("losetup -l -n") == ""
