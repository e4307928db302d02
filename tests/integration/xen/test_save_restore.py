"""xenqemu beside stock xl on real Xen hosts: every guest, every way, in both directions."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.formats import golden
from tests.integration.xen.bed import Bed, Tick, assert_goes_on, saved_ticks

pytestmark = pytest.mark.xen

XENQEMU = "python3 -m xenqemu"
HELPER = "LIBXL_SAVE_HELPER=/src/hotplug/libxl-save-helper"
FILE = "/tmp/guest.save"
GUESTS = ("hvm", "firmware", "pvh", "pv")
ON_417 = pytest.mark.parametrize("xen_host", ["4.17"], indirect=True)
ON_420 = pytest.mark.parametrize("xen_host", ["4.20"], indirect=True)

WAYS = {
    "ours to xl": (f"{XENQEMU} save {{}} {FILE}", f"xl restore {FILE}"),
    "xl to ours": (f"xl save {{}} {FILE}", f"{XENQEMU} restore {FILE}"),
    "ours to ours": (f"{XENQEMU} save {{}} {FILE}", f"{XENQEMU} restore {FILE}"),
    "our helper in xl to xl": (f"{HELPER} xl save {{}} {FILE}", f"xl restore {FILE}"),
}


def goes_on(bed: Bed, name: str, before: list[Tick]) -> list[Tick]:
    """Wait for more of a guest: the same memory, no tick lost, its clock right."""
    after = bed.wait_ticks(name, beyond=before)
    assert_goes_on(before, after)
    if name != "firmware":
        assert abs(after[-1].time - int(bed.must("date +%s"))) <= 3
    return after


def begin(bed: Bed, name: str) -> None:
    """Bring a guest back from the build's record."""
    bed.restore(name)
    goes_on(bed, name, saved_ticks(name))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", GUESTS)
def test_guests_go_every_way(
    bed: Bed, name: str, handed_on: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(bed, name)
    sizes = {}
    for way, (save, restore) in WAYS.items():
        bed.must(save.format(name), timeout=180)
        assert bed.run(f"xl domid {name}").rc == 1
        before = bed.ticks(name)
        if way in ("ours to xl", "our helper in xl to xl"):
            bed.must(f"verify-stream-v2 -f xl -i {FILE}", timeout=120)
        if way == "ours to xl" and bed.version == "4.17":
            hand_on(bed, name, handed_on)
        sizes[way] = int(bed.must(f"stat -c %s {FILE}"))
        bed.must(restore, timeout=180)
        goes_on(bed, name, before)
    assert bed.must(f"stat -c %a {FILE}") in {"600\n", "644\n"}
    with capsys.disabled():
        ratio = sizes["ours to xl"] / sizes["xl to ours"]
        print(f"\nXen {bed.version} {name}: record {ratio:.2f} of xl's")


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
            xenqemu.suspend("hvm", "/tmp/guest.save", host=host)
            xenqemu.restore("/tmp/guest.save", host=host, monitor=False)
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
@pytest.mark.timeout(600)
def test_two_domains_at_once_from_two_threads(bed: Bed) -> None:
    for name in ("pvh", "firmware"):
        begin(bed, name)
    script = """
        import concurrent.futures, xenqemu
        def save(name):
            seen = []
            xenqemu.suspend(name, f"/tmp/{name}.save", observe=seen.append)
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


def hand_on(bed: Bed, name: str, folder: Path) -> None:
    """Put a record, and what its guest had said, where a newer host finds them."""
    said = "\n".join(f"tick {t.number} nonce {t.nonce} time {t.time}" for t in bed.ticks(name))
    (folder / f"{name}.ticks").write_text(said)
    (folder / f"{name}.save").write_bytes(bed.get(FILE))


@ON_420
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", GUESTS)
def test_newer_host_takes_records_of_an_older_one(bed: Bed, name: str, handed_on: Path) -> None:
    ticks = (handed_on / f"{name}.ticks").read_text()
    before = [
        Tick(int(number), nonce, int(time))
        for number, nonce, time in re.findall(r"tick (\d+) nonce (\w+) time (\d+)", ticks)
    ]
    record = bed.put(f"{name}.save", handed_on / f"{name}.save")
    for restore in (f"{XENQEMU} restore", "xl restore"):
        bed.must(f"{restore} {record}", timeout=180)
        after = bed.wait_ticks(name, beyond=before)
        assert {tick.nonce for tick in after} == {before[-1].nonce}
        assert 0 <= after[0].number - before[-1].number <= 2
        bed.must(f"xl destroy {name}; rm -f /var/log/xen/guest-* /var/log/xen/*.serial")


@ON_417
def test_older_host_refuses_records_of_a_newer_one(bed: Bed) -> None:
    record = bed.put("newer.save", golden.record("hvm-xen4.20.save"))
    done = bed.run(f"{XENQEMU} restore {record}", timeout=60)
    assert done.rc == 2
    assert "HVM_CONTEXT LAPIC" in done.err
    assert "24 bytes, for Xen 4.17, got 32" in done.err
    assert bed.must("xl list | wc -l") == "2\n"
    assert bed.run(f"xl restore {record}", timeout=120).rc != 0  # Xen does refuse it


@ON_417
def test_what_libxl_and_qemu_say_of_a_failed_restore(bed: Bed) -> None:
    data = bytearray(golden.record("hvm.save"))
    at = data.rindex(b"\x03fdc") + 1  # a device that this machine does not have
    data[at : at + 3] = b"xyz"
    record = bed.put("damaged.save", bytes(data))
    done = bed.run(f"{XENQEMU} restore {record}", timeout=180)
    assert done.rc != 0
    assert "QEMU" in done.err, done.err
    assert bed.must("xl list | wc -l") == "2\n"


@pytest.mark.parametrize("command", ["status 0", "save 1 /tmp/x", "restore /guests/pvh.save"])
def test_without_privilege(bed: Bed, command: str) -> None:
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups --"
    done = bed.run(f"{user} {XENQEMU} --host xen {command}", timeout=60)
    assert done.rc == 3
    assert re.search("Permission denied|privilege|root", done.err), done.err


@ON_417
@pytest.mark.timeout(900)
def test_time_beside_xl(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    """No claim is asserted: the ratios are printed."""
    begin(bed, "hvm")
    took: dict[str, list[float]] = {}
    for _ in range(3):
        for who, save, restore in (
            ("xl", f"xl save hvm {FILE}", f"xl restore {FILE}"),
            ("xenqemu", f"{XENQEMU} save hvm {FILE}", f"{XENQEMU} restore {FILE}"),
        ):
            took.setdefault(f"{who} save", []).append(seconds(bed, save))
            took.setdefault(f"{who} restore", []).append(seconds(bed, restore))
            bed.wait_ticks("hvm")
    median = {what: sorted(times)[1] for what, times in took.items()}
    with capsys.disabled():
        for what in ("save", "restore"):
            ratio = median[f"xenqemu {what}"] / median[f"xl {what}"]
            print(f"\nXen {bed.version}: {what} takes {ratio:.2f} of xl's time ({median})")


def seconds(bed: Bed, command: str) -> float:
    """Return how long a command takes, by dom0's own clock."""
    timed = f"a=$(date +%s.%N); {command} >/dev/null 2>&1 && echo $a $(date +%s.%N)"
    began, ended = map(float, bed.must(timed, timeout=180).split())
    return ended - began


@pytest.fixture(scope="session")
def handed_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what one host leaves to the next."""
    folder = tmp_path_factory.getbasetemp() / "handed-on"
    folder.mkdir(exist_ok=True)
    return folder
