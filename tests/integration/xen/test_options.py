"""What xl's options and configurations are to xenqemu: -D, -e, CFG."""

from __future__ import annotations

import json

import pytest

from tests.integration.xen.bed import ROOT, Bed
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, begin, goes_on

pytestmark = [pytest.mark.xen, pytest.mark.long]

SAME_ID_AT_ONCE = "LIBXL_DOMID_REUSE_TIMEOUT=0"
"""libxl keeps an id from new domains for a minute after its last one ended."""

CFG = (ROOT / "scripts/xenbed.d/guests/pvh.cfg").read_text()


@ON_417
@pytest.mark.timeout(600)
def test_options_and_configurations(bed: Bed) -> None:
    begin(bed, "pvh")
    domid = bed.domid("pvh")
    watched = bed.put("watched.cfg", f'{CFG}on_crash = "preserve"\n')
    bed.must(f"{XENQEMU} save -D pvh {FILE} {watched}", timeout=180)
    assert config_in(FILE, bed)["on_crash"] == "preserve"
    before = bed.ticks("pvh")
    bed.must(f"{SAME_ID_AT_ONCE} {XENQEMU} restore -e {FILE}", timeout=180)
    assert bed.domid("pvh") == domid
    assert listed(bed, "pvh")["on_crash"] == "preserve"
    assert monitors(bed) == 0
    goes_on(bed, "pvh", before)

    bed.must(f"{XENQEMU} save pvh {FILE}", timeout=180)
    assert config_in(FILE, bed)["c_info"].get("domid", 0) == 0
    before = bed.ticks("pvh")
    other = bed.put("other.cfg", CFG.replace('"pvh"', '"other"', 1))
    bed.must(f"{XENQEMU} restore {other} {FILE}", timeout=180)
    assert bed.run("xl domid pvh").rc == 1
    assert bed.domid("other") != domid
    assert "on_crash" not in listed(bed, "other")
    assert monitors(bed) == 1
    goes_on(bed, "other", before)


def config_in(record: str, bed: Bed) -> dict[str, dict[str, object]]:
    """Return the config that a save file holds."""
    found = json.loads(bed.must(f"{XENQEMU} inspect --json {record}", timeout=60))
    return dict(found["config"])


def listed(bed: Bed, name: str) -> dict[str, object]:
    """Return the config that libxl has of a domain."""
    (entry,) = json.loads(bed.must(f"xl list -l {name}"))
    return dict(entry["config"])


def monitors(bed: Bed) -> int:
    """Count the processes of xl that wait for guests to reboot."""
    return int(bed.must("ps -C xl --no-headers | wc -l"))


@ON_417
@pytest.mark.timeout(600)
def test_a_folder_with_less_space_than_the_guest_has_memory(bed: Bed) -> None:
    """Pages of zeros take none; where the others do not fit, the guest is not touched."""
    before = begin(bed, "pvh")
    bed.must("mkdir /tmp/small && mount -t tmpfs -o size=110M tmpfs /tmp/small")
    try:
        bed.must(f"{XENQEMU} save -c pvh /tmp/small/x", timeout=180)
        assert int(bed.must("stat -c %s /tmp/small/x")) < 110 << 20
        bed.must("rm /tmp/small/x && mount -o remount,size=30M /tmp/small")
        done = bed.run(f"{XENQEMU} save -c pvh /tmp/small/x", timeout=180)
        assert done.rc == 3
        assert "bytes of free space are needed for the save file" in done.err
        goes_on(bed, "pvh", before)
    finally:
        bed.must("umount /tmp/small")
