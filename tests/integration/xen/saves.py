"""How guests are saved and restored by us and by stock xl, and what has to hold after each way."""

from __future__ import annotations

import re
import sys

from tests.integration.moments import DIE
from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import CHECKOUT, FILE, XENQEMU, Ours, at, begin, goes_on


def ways(ours: Ours) -> dict[str, tuple[str, str]]:
    """Return the ways that a guest is saved and restored."""
    xenqemu = ours.xenqemu
    return {
        "ours to xl": (f"{xenqemu} save {{}} {FILE}", f"xl restore {FILE}"),
        "xl to ours": (f"xl save {{}} {FILE}", f"{xenqemu} restore {FILE}"),
        "ours to ours": (f"{xenqemu} save {{}} {FILE}", f"{xenqemu} restore {FILE}"),
        "our helper in xl to xl": (f"{ours.in_xl} xl save {{}} {FILE}", f"xl restore {FILE}"),
    }


def goes_every_way(bed: Bed, name: str, ours: Ours = CHECKOUT) -> None:
    """Save and restore a guest in each of the `ways`; it runs after each."""
    begin(bed, name)
    sizes = {}
    for way, (save, restore) in ways(ours).items():
        saved = bed.run(save.format(name), timeout=180)
        assert saved.rc == 0, saved
        ours_in_xl = way.startswith("our helper") and name != "pv"
        assert ("by xenqemu's own writer" in saved.err) == ours_in_xl, saved
        assert bed.run(f"xl domid {name}").rc == 1
        before = bed.ticks(name)
        if way in ("ours to xl", "our helper in xl to xl"):
            bed.must(f"verify-stream-v2 -f xl -i {FILE}", timeout=120)
        sizes[way] = int(bed.must(f"stat -c %s {FILE}"))
        bed.must(restore, timeout=180)
        goes_on(bed, name, before)
    assert bed.must(f"stat -c %a {FILE}") in {"600\n", "644\n"}
    sys.stdout.write(
        f"{name}: the save file is {sizes['ours to xl'] / sizes['xl to ours']:.2f} of xl's\n"
    )


def is_killed_and_recovered(bed: Bed, moment: str) -> None:
    """Kill a save at a moment before its point of no return; `recover` has the guest run on."""
    before = bed.ticks("pvh")
    assert at(bed, moment, DIE, "save", "pvh", FILE).rc == -9
    told = bed.must(f"{XENQEMU} recover pvh", timeout=120)
    assert re.search(r"the save of domain \d+ \(pvh\) to \S+, interrupted in its \w+, is", told)
    assert "rolled back" in told, told
    goes_on(bed, "pvh", before)
    assert bed.must("ls -A /tmp; ls -A /run/xenqemu") == "lock\n"
