"""Guests whose disk and network card are connected by our scripts, and what they say of them."""

from __future__ import annotations

import json
import time

from tests.integration.xen.bed import Bed, assert_goes_on
from tests.integration.xen.hosts import CHECKOUT, Ours

DOM0 = "10.9.0.1"
WORDS = "this is the disk"
BLOCK = CHECKOUT.block
VIF = CHECKOUT.vif
LINUX = """
name = "{name}"
type = "{type}"
memory = 128
kernel = "/guests/vmlinuz-net"
ramdisk = "/guests/initrd-net"
cmdline = "console=hvc0 quiet panic=-1 mitigations=off random.trust_cpu=on {words}"
disk = [ "format=raw,vdev=xvda,access=rw,script={block},target=/tmp/disk.img" ]
vif = [ "mac=00:16:3e:00:00:0{number},bridge=xenbr0,ip=10.9.0.{number},script={vif}" ]
"""


CONF = """
[trust]
allow = ["disks.script={block}", "nics.script={vif}"]
"""
"""Our scripts are where stock Xen has none."""


def left(bed: Bed) -> str:
    """Return what is still there of devices."""
    return bed.must(
        "losetup -l -n; ip -br link show master xenbr0; ls /run/xenqemu/hotplug;"
        "xenstore-list /local/domain/0/backend/vbd /local/domain/0/backend/vif 2>/dev/null; :"
    )


def linux(bed: Bed, name: str, kind: str, number: int, ours: Ours = CHECKOUT) -> str:
    """Write the file of a Linux guest that asks its disk and dom0 after each tick."""
    words = f"ip=10.9.0.{number}/24 reach={DOM0} disk=/dev/xvda"
    text = LINUX.format(
        name=name, type=kind, words=words, number=number, block=ours.block, vif=ours.vif
    )
    return bed.put(f"{name}.cfg", text)


def wait_works(bed: Bed, name: str, heard: int = 0) -> int:
    """Wait until the guest has its disk and its network; return how much it has said."""
    deadline = time.monotonic() + 180
    said = ""
    while not (f"reached {DOM0}" in said and f"disk {WORDS}" in said):
        assert time.monotonic() < deadline, said[-2000:]
        bed.listen(lambda: False, 0.2)
        said = bed.said(name)[heard:]
    return heard + len(said)


def keeps_its_disk_and_its_network(bed: Bed, disk: str, kind: str, ours: Ours = CHECKOUT) -> None:
    """Move a guest by xl and by us; after each move it reads its disk and reaches dom0."""
    conf = bed.put("conf", CONF.format(block=ours.block, vif=ours.vif))
    bed.must(f"mkdir -p /etc/xenqemu && cp {conf} /etc/xenqemu/xenqemu.conf")
    bed.must(f"xl create -q {linux(bed, 'web', kind, 5, ours)}", timeout=180)
    heard = wait_works(bed, "web")
    owner = json.loads(bed.must(f"cat {disk}.xenqemu-lease"))["owner"]
    assert owner["vm"] == bed.must("xl vm-list | awk '$3 == \"web\" { print $1 }'").strip()

    second = bed.run(f"xl create -q {linux(bed, 'mail', kind, 6, ours)}", timeout=180)
    assert second.rc != 0
    assert f"{disk} is in use by domain {bed.domid('web')} (web) as xvda, to be written" in (
        second.err
    )
    assert bed.run("xl domid mail").rc != 0

    mover = (
        ours.xenqemu if kind == "pv" else "xl"
    )  # Debian's Xen has no shadow paging: xl moves no PV
    for acts in (
        ["xl save web /tmp/web.save", "xl restore /tmp/web.save"],
        [f"{ours.xenqemu} save web /tmp/web.save", f"{ours.xenqemu} restore /tmp/web.save"],
        [f"{mover} migrate -s '' web 'xl migrate-receive'"],
    ):
        before = bed.ticks("web")
        for act in acts:
            bed.must(act, timeout=240)
            if " save " in act:
                assert left(bed) == ""
        heard = wait_works(bed, "web", heard)
        assert_goes_on(before, bed.wait_ticks("web", beyond=before))
    assert len(bed.must("losetup -l -n").splitlines()) == 1
    bed.must("xl destroy web", timeout=60)
    assert bed.must(f"ls {disk}*") == f"{disk}\n"
