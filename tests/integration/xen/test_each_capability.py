"""What has to hold on a real Xen host on each change: each capability once, on one boot.

The other files here are for `scripts/test --all`: other guests, ways, failures, and a newer Xen.
"""

from __future__ import annotations

import re

import pytest

from tests.golden import save_files
from tests.integration.xen.bed import Bed
from tests.integration.xen.busy import goes_on_here_and_from_its_record
from tests.integration.xen.devices import keeps_its_disk_and_its_network
from tests.integration.xen.hosts import ON_417, XENQEMU, begin
from tests.integration.xen.migrations import migrates_every_way
from tests.integration.xen.saves import goes_every_way, is_killed_and_recovered

pytestmark = [pytest.mark.xen, ON_417, pytest.mark.timeout(900)]


@pytest.mark.parametrize("name", ["pvh", "pv", "hvm"])
def test_guests_go_from_us_to_xl_and_from_xl_to_us(bed: Bed, name: str) -> None:
    goes_every_way(bed, name)


def test_a_guest_is_saved_while_it_runs(busy: Bed) -> None:
    goes_on_here_and_from_its_record(busy)


def test_a_guest_migrates_from_us_to_xl_and_from_xl_to_us(bed: Bed) -> None:
    migrates_every_way(bed, "hvm")


def test_a_guest_outlives_the_process_that_saves_it(bed: Bed) -> None:
    begin(bed, "pvh")
    is_killed_and_recovered(bed, "save progress")


def test_a_guest_keeps_its_disk_and_its_network(bed: Bed, disk: str) -> None:
    keeps_its_disk_and_its_network(bed, disk, "pvh")


def test_older_host_refuses_records_of_a_newer_one(bed: Bed) -> None:
    record = bed.put("newer.save", save_files.unpacked("hvm-xen4.20.save"))
    done = bed.run(f"{XENQEMU} restore {record}", timeout=60)
    assert done.rc == 2
    assert "HVM_CONTEXT LAPIC" in done.err
    assert "24 bytes, for Xen 4.17, got 32" in done.err
    assert bed.must("xl list | wc -l") == "2\n"
    assert bed.run(f"xl restore {record}", timeout=120).rc != 0  # Xen does refuse it


def test_what_would_refuse_a_guest_is_told_beforehand(bed: Bed) -> None:
    begin(bed, "hvm")
    assert bed.must(f"{XENQEMU} check --to /tmp hvm", timeout=120) == "a save of hvm would work\n"
    bed.must(f"{XENQEMU} save -c hvm /tmp/hvm.save", timeout=180)
    taken = bed.run(f"{XENQEMU} check /tmp/hvm.save", timeout=120)
    assert (taken.rc, taken.err) == (3, "")
    named, summary = taken.out.splitlines()
    assert re.fullmatch(r"refused: domain \d+ is named hvm already", named)
    assert summary == "a restore of /tmp/hvm.save would fail: 1 refusal, 0 warnings"
    newer = bed.put("newer.save", save_files.unpacked("hvm-xen4.20.save"))
    found = bed.run(f"{XENQEMU} check {newer}", timeout=120)
    assert found.rc == 3
    assert "HVM_CONTEXT LAPIC" in found.out
    assert "was saved under Xen 4.20, this is an older one: Xen 4.17" in found.out


@pytest.mark.parametrize("command", ["status 0", "save 1 /tmp/x", "restore /guests/pvh.save"])
def test_without_privilege(bed: Bed, command: str) -> None:
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups --"
    done = bed.run(f"{user} {XENQEMU} --host xen {command}", timeout=60)
    assert done.rc == 3
    assert re.search("Permission denied|privilege|root", done.err), done.err
