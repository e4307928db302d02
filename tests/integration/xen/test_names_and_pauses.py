"""Paused guests, and names that libxl or a folder cannot keep apart, on a real Xen host."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.integration.moments import DIE
from tests.integration.xen.bed import Bed, assert_goes_on
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, at, begin, goes_on

pytestmark = [pytest.mark.xen, pytest.mark.long, ON_417, pytest.mark.timeout(900)]

CONF = """
xendomains = ""
save_all.folder = "/tmp/records"
restore_all.proof = 5
"""


def assert_paused(bed: Bed, name: str) -> None:
    """Assert that a guest is paused, once: one `xl unpause` is enough."""
    assert re.search(rf"{name} +\d+ +\d+ +\d+ +--p---", bed.must(f"xl list {name}"))


def all_of(bed: Bed, verb: str) -> dict[str, str]:
    """Run save-all or restore-all; return what became of whom."""
    conf = bed.put("conf", CONF)
    said = bed.run(f"{XENQEMU} --conf {conf} {verb} --json", timeout=300).out
    told = map(json.loads, said.splitlines())
    return {each["name"]: each["outcome"] for each in told if "name" in each}


def test_a_paused_guest_without_pv_drivers_is_saved_and_comes_back_paused(bed: Bed) -> None:
    begin(bed, "firmware")
    bed.must("xl pause firmware")
    before = bed.ticks("firmware")
    bed.must(f"{XENQEMU} save -p firmware {FILE}", timeout=180)
    assert_paused(bed, "firmware")
    killed = at(bed, "save progress", DIE, "save", "firmware", FILE)
    assert killed.rc != 0
    bed.must(f"{XENQEMU} recover firmware", timeout=120)
    assert_paused(bed, "firmware")
    bed.must("xl unpause firmware")
    goes_on(bed, "firmware", before)
    bed.must("xl pause firmware")
    bed.must(f"{XENQEMU} save firmware {FILE}", timeout=180)
    assert bed.run("xl domid firmware").rc == 1
    said = bed.must(f"{XENQEMU} restore {FILE}", timeout=180)
    assert ", paused; " in said
    assert_paused(bed, "firmware")
    bed.must(f"{XENQEMU} save firmware {FILE}", timeout=180)  # QEMU was not continued since
    bed.must(f"{XENQEMU} restore {FILE}", timeout=180)
    assert_paused(bed, "firmware")
    with pytest.raises(TimeoutError):
        bed.wait_ticks("firmware", timeout=3)
    heard = bed.ticks("firmware")
    bed.must("xl unpause firmware")
    bed.wait_ticks("firmware", beyond=heard)


def test_a_paused_guest_that_has_to_answer_is_refused_at_once(bed: Bed) -> None:
    for name in ("hvm", "pvh"):
        begin(bed, name)
        bed.must(f"xl pause {name}")
        began = time.monotonic()
        done = bed.run(f"{XENQEMU} save {name} {FILE}", timeout=120)
        assert done.rc == 3, done.err
        assert "it is paused, so it cannot acknowledge the request" in done.err
        assert time.monotonic() - began < 30
        assert_paused(bed, name)
        before = bed.ticks(name)
        bed.must(f"xl unpause {name}")
        goes_on(bed, name, before)


def test_all_paused_guests_of_a_host_that_shuts_down(bed: Bed) -> None:
    for name in ("firmware", "pvh"):
        begin(bed, name)
        bed.must(f"xl pause {name}")
    assert all_of(bed, "save-all") == {"firmware": "saved", "pvh": "failed"}
    bed.must("xl destroy pvh")
    assert all_of(bed, "restore-all") == {"firmware": "restored"}
    assert_paused(bed, "firmware")
    assert bed.must("ls -A /tmp/records") == ".firmware.ran\n"
    bed.must("xl unpause firmware")
    assert all_of(bed, "restore-all") == {"firmware": "restored"}
    assert bed.must("ls -A /tmp/records") == ""


@pytest.mark.parametrize("name", ["../../etc/x", "n" * 241])
def test_a_name_that_libxl_cannot_restore_is_refused(bed: Bed, name: str) -> None:
    begin(bed, "pvh")
    domid = bed.domid("pvh")
    bed.must(f"xl rename pvh {name}")
    done = bed.run(f"{XENQEMU} save {domid} {FILE}", timeout=60)
    assert done.rc == 3
    assert "libxl cannot restore a guest named" in done.err
    assert bed.run(f"ls {FILE}").rc != 0
    bed.must(f"xl rename {domid} pvh")
    bed.must(f"{XENQEMU} save pvh {FILE}", timeout=180)


def test_the_longest_name_comes_back(bed: Bed) -> None:
    begin(bed, "hvm")
    name = "n" * 240
    bed.must(f"xl rename hvm {name} && touch /var/log/xen/qemu-dm-{name}.log")
    assert all_of(bed, "save-all") == {name: "saved"}
    assert all_of(bed, "restore-all") == {name: "restored"}
    assert bed.domid(name)
    assert bed.must("ls -A /tmp/records") == ""


def test_two_domains_of_one_name_are_both_saved(bed: Bed) -> None:
    begin(bed, "pvh")
    begin(bed, "firmware")
    domid = bed.domid("firmware")
    bed.run(f"xl rename {domid} pvh")  # it complains, and writes the name
    bed.must(f"xenstore-write /local/domain/{domid}/name pvh")
    before = bed.ticks("pvh")
    conf = bed.put("conf", CONF)
    said = bed.must(f"{XENQEMU} --conf {conf} save-all --json", timeout=300)
    assert [json.loads(line)["outcome"] for line in said.splitlines()] == ["saved", "saved"]
    first, second = bed.must("ls -A /tmp/records").split()
    assert first == "pvh"
    assert second.startswith("pvh~")
    assert bed.must("xl list | wc -l") == "2\n"
    kinds = {
        json.loads(bed.must(f"{XENQEMU} inspect --json /tmp/records/{file}"))["config"]["c_info"][
            "type"
        ]: file
        for file in (first, second)
    }
    bed.must(f"{XENQEMU} restore /tmp/records/{kinds['pvh']}", timeout=180)
    assert_goes_on(before, bed.wait_ticks("pvh", beyond=before))


def test_a_disk_that_changed_after_the_save_and_a_second_restore(bed: Bed) -> None:
    begin(bed, "firmware")
    image = "/var/lib/xen/firmware.img"
    bed.must(f"{XENQEMU} save firmware {FILE}", timeout=180)
    done = bed.run(f"{XENQEMU} restore --strict-disks {FILE}", timeout=180)
    assert (done.rc, done.err) == (0, "")
    bed.must(f"xl destroy firmware; sleep 1; touch {image}")
    done = bed.run(f"{XENQEMU} restore --strict-disks {FILE}", timeout=180)
    assert done.rc == 3
    assert f"{image} was changed (" in done.err
    done = bed.run(f"{XENQEMU} restore {FILE}", timeout=180)
    assert done.rc == 0
    assert "its file systems may break" in done.err
    assert f"{FILE} was restored before (" in done.err
