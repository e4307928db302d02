"""xenqemu beside stock xl on real Xen hosts: every guest, every way, in both directions."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests import soak
from tests.golden import save_files
from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import (
    FILE,
    GUESTS,
    ON_417,
    ON_420,
    XENQEMU,
    Boots,
    begin,
    goes_on,
)
from tests.integration.xen.saves import goes_every_way

pytestmark = [pytest.mark.xen, pytest.mark.long]


@ON_417
@pytest.mark.timeout(900)
def test_firmware_goes_every_way(bed: Bed) -> None:
    goes_every_way(bed, "firmware")


@ON_420
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", GUESTS)
def test_guests_go_every_way_on_the_newest_xen(bed: Bed, name: str) -> None:
    goes_every_way(bed, name)


@ON_417
@pytest.mark.timeout(900)
def test_saved_guest_runs_on_or_is_left_paused(bed: Bed) -> None:
    begin(bed, "hvm")
    domid = bed.domid("hvm")
    ticks = {}
    for number in (1, 2):
        bed.must(f"{XENQEMU} save -c hvm /tmp/{number}.save", timeout=180)
        ticks[number] = bed.ticks("hvm")
        bed.wait_ticks("hvm")
        assert bed.domid("hvm") == domid
    bed.must(f"{XENQEMU} save -p hvm /tmp/paused.save", timeout=180)
    assert re.search(r"hvm +\d+ +\d+ +\d+ +--p---", bed.must("xl list hvm"))
    before = bed.ticks("hvm")
    with pytest.raises(TimeoutError):
        bed.wait_ticks("hvm", timeout=3)
    bed.must("xl unpause hvm")
    goes_on(bed, "hvm", before)
    bed.must(f"{XENQEMU} save hvm /tmp/3.save", timeout=180)
    ticks[3] = bed.ticks("hvm")
    for number in (1, 2, 3):
        bed.must(f"{XENQEMU} restore -p /tmp/{number}.save", timeout=180)
        assert bed.ticks("hvm")[-1] == ticks[3][-1] or number > 1
        heard = len(bed.ticks("hvm"))
        bed.must("xl unpause hvm")
        new = bed.wait_ticks("hvm")[0]
        assert new.nonce == ticks[3][-1].nonce
        assert 0 <= new.number - ticks[number][-1].number <= 4, heard
        bed.must("xl destroy hvm")


@ON_417
def test_devices_of_a_full_machine(bed: Bed) -> None:
    begin(bed, "devices")
    bed.must(f"{XENQEMU} save -c devices {FILE}", timeout=180)
    found = json.loads(bed.must(f"{XENQEMU} inspect --json {FILE}", timeout=60))
    names = [device["idstr"] for device in found["devices"]]
    assert all(device["certain"] for device in found["devices"])
    assert [name for name in names if "/" in name] == [
        "0000:00:00.0/I440FX",
        "0000:00:01.0/PIIX3",
        "0000:00:01.1/ide",
        "0000:00:01.2/uhci",
        "0000:00:01.3/piix4_pm",
        "0000:00:02.0/platform",
        "0000:00:01.2/1/usb-ptr",
        "0000:00:03.0/vga",
        "0000:00:04.0/e1000",
    ]
    assert names.count("cpu_common") == 2
    bed.must(f"{XENQEMU} devices save devices /tmp/state", timeout=60)
    alone = json.loads(bed.must(f"{XENQEMU} inspect --json /tmp/state", timeout=60))
    assert [device["idstr"] for device in alone["devices"]] == names


@ON_417
@pytest.mark.timeout(900)
def test_twenty_cycles(bed: Bed) -> None:
    begin(bed, "hvm")
    script = """
        import xenqemu
        host = xenqemu.open_host("xen")
        for cycle in range(20):
            xenqemu.save("hvm", "/tmp/guest.save", host=host)
            options = xenqemu.RestoreOptions(monitor=False)
            xenqemu.restore("/tmp/guest.save", options, host=host)
    """
    path = bed.put("cycles.py", "\n".join(line[8:] for line in script.splitlines()))
    before = bed.ticks("hvm")
    bed.must(f"python3 {path}", timeout=800)
    after = bed.wait_ticks("hvm", beyond=before)
    assert {tick.nonce for tick in after} == {before[-1].nonce}
    numbers = [before[-1].number, *(tick.number for tick in after)]
    steps = [later - sooner for sooner, later in pairwise(numbers)]
    assert set(steps) <= {0, 1, 2}, numbers  # a line that a suspend cuts in two is not read
    assert steps.count(1) > len(steps) - 2 * 20


@ON_417
@pytest.mark.timeout(900)
def test_five_times_by_commands(bed: Bed) -> None:
    soak.xen(bed, 5)


@ON_417
@pytest.mark.timeout(600)
def test_two_domains_at_once_from_two_threads(bed: Bed) -> None:
    for name in ("pvh", "firmware"):
        begin(bed, name)
    script = """
        import concurrent.futures, xenqemu
        def save(name):
            seen = []
            xenqemu.save(name, f"/tmp/{name}.save", observe=seen.append)
            assert seen[-1].phase.value == "release", seen[-1]
            return xenqemu.verify(f"/tmp/{name}.save").config.name
        with concurrent.futures.ThreadPoolExecutor() as pool:
            print(*pool.map(save, ["pvh", "firmware"]))
    """
    path = bed.put("threads.py", "\n".join(line[8:] for line in script.splitlines()))
    assert bed.must(f"python3 {path}", timeout=300) == "pvh firmware\n"
    for name in ("pvh", "firmware"):
        before = bed.ticks(name)
        bed.must(f"{XENQEMU} restore /tmp/{name}.save", timeout=180)
        goes_on(bed, name, before)


@pytest.mark.timeout(1200)
def test_newer_host_takes_records_of_an_older_one(boot: Boots, tmp_path: Path) -> None:
    before = {}
    bed = boot("4.17")
    for name in GUESTS:
        begin(bed, name)
        bed.must(f"{XENQEMU} save {name} {FILE}", timeout=180)
        before[name] = bed.ticks(name)[-1]
        (tmp_path / name).write_bytes(bed.get(FILE))
    bed = boot("4.20")
    for name, last in before.items():
        file = bed.put(name, tmp_path / name)
        for restore in (f"{XENQEMU} restore", "xl restore"):
            bed.must(f"{restore} {file}", timeout=180)
            first = bed.wait_ticks(name)[0]
            assert first.nonce == last.nonce
            assert 0 <= first.number - last.number <= 2
            bed.must(f"xl destroy {name}; rm -f /var/log/xen/guest-* /var/log/xen/*.serial")


@ON_417
def test_what_libxl_and_qemu_say_of_a_failed_restore(bed: Bed) -> None:
    data = bytearray(save_files.unpacked("hvm.save"))
    at = data.rindex(b"\x03fdc") + 1  # a device that this machine does not have
    data[at : at + 3] = b"xyz"
    record = bed.put("damaged.save", bytes(data))
    done = bed.run(f"{XENQEMU} restore {record}", timeout=180)
    assert done.rc != 0
    assert "QEMU" in done.err, done.err
    assert bed.must("xl list | wc -l") == "2\n"
