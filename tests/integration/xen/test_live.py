"""Guests that are saved and sent while they run, on real Xen hosts, and go on under stock xl too.

The guest rewrites 16 MiB of its memory again and again and looks whether they are right.
"""

from __future__ import annotations

import pytest

from tests.integration.moments import DIE
from tests.integration.xen.bed import Bed
from tests.integration.xen.busy import (
    GAP,
    LIVE,
    goes_on_here_and_from_its_record,
    iterations,
    looks_after_itself,
    said,
)
from tests.integration.xen.hosts import (
    FILE,
    HELPER,
    ON_417,
    ON_420,
    XENQEMU,
    at,
    begin,
    goes_on,
)

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(900)]


@ON_420
def test_a_guest_goes_on_here_and_from_its_record_on_the_newest_xen(busy: Bed) -> None:
    goes_on_here_and_from_its_record(busy)


@ON_417
def test_a_compacted_record(busy: Bed) -> None:
    busy.must(f"{XENQEMU} save --compact {LIVE} hvm {FILE}", timeout=300)
    busy.must(f"verify-stream-v2 -f xl -i {FILE}", timeout=120)
    busy.must(f"xl restore {FILE}", timeout=180)
    looks_after_itself(busy)


@ON_417
def test_the_guest_stands_still_for_a_shorter_time(busy: Bed) -> None:
    """Its own word for it: the longest time between two looks at its clock, in milliseconds."""
    longest = {}
    for way in ("xl save -c", f"{XENQEMU} save -c", f"{XENQEMU} save -c --live"):
        before = len(GAP.findall(said(busy)))
        busy.must(f"{way} hvm {FILE}", timeout=300)
        looks_after_itself(busy)
        longest[way] = max(map(int, GAP.findall(said(busy))[before:]))
    first, *_, last = longest.values()
    assert last < first, longest


LOG = """
import sys
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.memory.dirty_log import ENABLE_LOGDIRTY, DirtyLog
from xenqemu.host.xen.library import Xen
domid = int(sys.argv[1])
with Xen() as xen:
    call = (xen.release.dirty_log.value, domid, ENABLE_LOGDIRTY, None, 0, 0, None)
    on = xen.attempt(*call)[0] < 0
    if not on:
        DirtyLog(xen, domid).stop()
print("on" if on else "off")
"""
"""Says whether Xen's log of a domain is on; to begin it fails then."""


def dirty_log(bed: Bed, name: str) -> str:
    bed.put("log.py", LOG)
    return bed.must(f"python3 /job/log.py {bed.domid(name)}", timeout=60).strip()


@ON_417
def test_a_live_save_that_is_killed_leaves_no_log_on(busy: Bed) -> None:
    assert dirty_log(busy, "hvm") == "off"
    assert at(busy, "save iteration", DIE, "save", "--live", "hvm", FILE).rc == -9
    assert dirty_log(busy, "hvm") == "on"
    assert "rolled back" in busy.must(f"{XENQEMU} recover hvm", timeout=120)
    assert dirty_log(busy, "hvm") == "off"
    assert busy.must("ls -A /tmp; ls -A /run/xenqemu") == "lock\n"
    looks_after_itself(busy)
    busy.must(f"{XENQEMU} save --live -c hvm {FILE}", timeout=300)
    assert dirty_log(busy, "hvm") == "off"


@ON_417
def test_a_guest_that_never_settles_is_left_alone_if_that_is_wanted(busy: Bed) -> None:
    done = busy.run(f"{XENQEMU} save --give-up {LIVE} hvm {FILE}", timeout=300)
    assert done.rc == 10
    assert "after 4 iterations" in done.err
    assert "the guest is as it was" in done.err
    assert busy.run(f"ls {FILE}").rc == 2
    assert dirty_log(busy, "hvm") == "off"
    looks_after_itself(busy)


@ON_417
def test_a_guest_that_gives_memory_back_meanwhile(busy: Bed) -> None:
    save = busy.start(f"{XENQEMU} save -c --json --live --bandwidth 6M hvm {FILE}", 300)
    bed_waits_for_progress = "until grep -q '\"progress\"' /job/run/%d.out; do sleep 0.1; done"
    busy.must(bed_waits_for_progress % save.number, timeout=120)
    busy.must("xl mem-set hvm 110")
    assert save.wait().rc == 0, save.err
    looks_after_itself(busy)
    busy.must("xl destroy hvm")
    busy.must(f"xl restore {FILE}", timeout=180)
    looks_after_itself(busy)


@ON_417
def test_a_guest_moves_while_it_runs(busy: Bed) -> None:
    done = busy.run(f"{XENQEMU} migrate -s '' --json hvm 'xl migrate-receive'", timeout=300)
    assert done.rc == 0, done.err
    assert len(iterations(done.out)) > 2
    looks_after_itself(busy)
    busy.must(f"{HELPER} xl migrate -s '' hvm 'xl migrate-receive'", timeout=300)
    looks_after_itself(busy)


@ON_417
def test_a_guest_without_a_device_model(bed: Bed) -> None:
    begin(bed, "pvh")
    bed.must(f"{XENQEMU} save --live pvh {FILE}", timeout=300)
    before = bed.ticks("pvh")
    bed.must(f"xl restore {FILE}", timeout=180)
    goes_on(bed, "pvh", before)


OWN = """
import sys
from xenqemu.formats.helper.dialects import dialect_of
from xenqemu.host import domain_state
from xenqemu.host.protocol import Live
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.host.xen.memory.own_helper import own_helper
from xenqemu.host.xen.xen_host import XenHost
from xenqemu.host.xen.library import running_version
from xenqemu.host.xen.memory.helper_memory import HelperMemory
from xenqemu.operations.save_file import write_save_file
host = XenHost()
domid = domain_state.find(host, "pvh").domid
version = running_version()
memory = HelperMemory(
    domid,
    own_helper(version),
    dialect_of(version),
    lambda: False,
    pages=lambda: 0,
    logs=lambda: True,
)
suspend = lambda: host.hypervisor.suspend(domid)
live = Live(PrecopyOptions(), suspend, lambda done: print(done.number))
with open(sys.argv[1], "wb", buffering=0) as file:
    def image(sink):
        memory.save_live(sink, lambda done, total: None, live)
    write_save_file(file, host.config(domid).with_domid(0), image)
host.destroy(domid)
"""
"""Has libxc write a PVH guest, as it would a PV guest: Debian's Xen cannot log those."""


@ON_417
def test_the_iterations_of_libxc(bed: Bed) -> None:
    begin(bed, "pvh")
    bed.put("own.py", OWN)
    told = bed.must(f"python3 /job/own.py {FILE}", timeout=300).split()
    assert told == [str(number + 1) for number in range(len(told))]
    assert len(told) >= 3
    before = bed.ticks("pvh")
    bed.must(f"xl restore {FILE}", timeout=180)
    goes_on(bed, "pvh", before)


@ON_417
def test_a_pv_guest_that_this_xen_cannot_log(bed: Bed) -> None:
    begin(bed, "pv")
    before = bed.ticks("pv")
    done = bed.run(f"{XENQEMU} save --live pv {FILE}", timeout=300)
    assert done.rc == 3
    assert "cannot be saved while it runs: this host cannot tell which of its pages" in done.err
    goes_on(bed, "pv", before)
