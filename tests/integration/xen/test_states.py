"""Guests that sleep, or that another toolstack left suspended, on a real Xen host."""

from __future__ import annotations

import pytest

from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import FILE, ON_417, XENQEMU, begin, goes_on

pytestmark = [pytest.mark.xen, pytest.mark.long, ON_417, pytest.mark.timeout(900)]

S_STATE = """
import ctypes
import sys
from xenqemu.host.xen.control import ACPI_S_STATE, Control
from xenqemu.host.xen.library import Xen
domid, *states = map(int, sys.argv[1:])
library = ctypes.CDLL("libxenctrl.so.4.17")
library.xc_interface_open.restype = ctypes.c_void_p
handle = ctypes.c_void_p(library.xc_interface_open(None, None, 0))
for state in states:
    assert library.xc_hvm_param_set(handle, domid, ACPI_S_STATE, ctypes.c_uint64(state)) == 0
with Xen() as xen:
    print(Control(xen).hvm_param(domid, ACPI_S_STATE))
"""
"""Puts an HVM guest into an ACPI S state, as its device model does, and says in which it is."""


def s_state(bed: Bed, name: str, *states: int) -> str:
    """Return the S state of a guest, after it was put into `states`."""
    bed.put("s_state.py", S_STATE)
    words = " ".join(map(str, (bed.domid(name), *states)))
    return bed.must(f"python3 /job/s_state.py {words}").strip()


@pytest.mark.parametrize("words", ["save", "save -c", "save --live"])
def test_a_guest_that_sleeps_is_refused_by_name_and_sleeps_on(bed: Bed, words: str) -> None:
    bed.restore("firmware")
    assert s_state(bed, "firmware", 3) == "3"
    done = bed.run(f"{XENQEMU} {words} firmware {FILE}", timeout=60)
    domid = bed.domid("firmware")
    assert done.rc == 3, done.err
    assert f"domain {domid} sleeps in ACPI S3" in done.err
    assert f"xl trigger {domid} s3resume" in done.err
    assert bed.run(f"ls {FILE}").rc == 2
    assert s_state(bed, "firmware") == "3"


def asked_by_a_dead_xl(bed: Bed, name: str) -> str:
    """Kill an `xl save` right after its request; the node of the request."""
    domid = bed.domid(name)
    node = f"/local/domain/{domid}/control/shutdown"
    bed.must(f"xl pause {domid}")  # or it would answer at once
    save = bed.start(f"xl save {name} {FILE}")
    bed.must(f'until [ "$(xenstore-read {node})" = suspend ]; do sleep 0.1; done', timeout=60)
    save.kill()
    save.wait()
    return node


def test_a_guest_that_obeyed_a_dead_xl_is_resumed(bed: Bed) -> None:
    before = begin(bed, "pvh")
    asked_by_a_dead_xl(bed, "pvh")
    bed.must("xl unpause pvh")
    bed.must("until xl list pvh | grep -q -- '---ss-'; do sleep 0.2; done", timeout=60)
    assert "Invalid argument" in bed.run("xl unpause pvh").err
    assert "was left suspended by a program that is gone" in bed.must(f"{XENQEMU} status pvh")
    told = bed.must(f"{XENQEMU} recover")
    assert "resumes it" in told
    assert "---ss-" in bed.must("xl list pvh")
    told = bed.must(f"{XENQEMU} recover pvh", timeout=120)
    assert "it was resumed" in told
    goes_on(bed, "pvh", before)
    assert bed.must(f"{XENQEMU} recover") == "nothing was left unfinished\n"
    bed.must(f"{XENQEMU} save -c pvh {FILE}", timeout=180)


def test_a_request_of_a_dead_xl_is_withdrawn(bed: Bed) -> None:
    before = begin(bed, "pvh")
    node = asked_by_a_dead_xl(bed, "pvh")
    assert "was left with a suspend request" in bed.must(f"{XENQEMU} status pvh")
    assert "it was resumed" in bed.must(f"{XENQEMU} recover pvh", timeout=120)
    assert bed.must(f"xenstore-read {node}") == "\n"
    bed.must("xl unpause pvh")
    goes_on(bed, "pvh", before)


def test_a_guest_that_asks_for_the_id_it_had_is_told_how_long_libxl_keeps_it(bed: Bed) -> None:
    begin(bed, "pvh")
    domid = bed.domid("pvh")
    bed.must(f"{XENQEMU} save -D pvh {FILE}", timeout=180)
    done = bed.run(f"{XENQEMU} restore {FILE}", timeout=60)
    assert done.rc == 3, done.err
    assert f"pvh is to have the id {domid}, whose domain ended a moment ago" in done.err
    assert "libxl:" not in done.err
    before = bed.ticks("pvh")
    bed.must("sleep 62", timeout=90)
    bed.must(f"{XENQEMU} restore {FILE}", timeout=180)
    assert bed.domid("pvh") == domid
    goes_on(bed, "pvh", before)


def test_a_guest_is_saved_into_a_folder_that_takes_no_foreign_pages(bed: Bed) -> None:
    """9p, where libxc's own writer ends in "Bad address"."""
    before = begin(bed, "hvm")
    bed.must(f"{XENQEMU} save hvm /job/guest.save", timeout=300)
    bed.must(f"cp /job/guest.save {FILE}", timeout=120)
    bed.must(f"xl restore {FILE}", timeout=180)
    goes_on(bed, "hvm", before)
