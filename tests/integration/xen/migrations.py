"""How guests migrate by us and by stock xl, and what has to hold after each way."""

from __future__ import annotations

import shlex

from tests.integration.xen.bed import Bed, Result, Tick, saved_ticks
from tests.integration.xen.hosts import XENQEMU, goes_on

XL_RECEIVES = "xl migrate-receive"
WE_RECEIVE = f"{XENQEMU} migrate-receive"
WAYS = {
    "ours to xl": (XENQEMU, XL_RECEIVES),
    "xl to ours": ("xl", WE_RECEIVE),
    "ours to ours": (XENQEMU, WE_RECEIVE),
}
NO_SHADOW = "Failed to enable logdirty"
"""What xl says of every PV guest: Debian builds Xen without shadow paging, which logs for them."""


def migrate(bed: Bed, sender: str, name: str, receiver: str) -> Result:
    return bed.run(f"{sender} migrate -s '' {name} {shlex.quote(receiver)}", timeout=300)


def begin(bed: Bed, name: str) -> list[Tick]:
    """Restore a guest from the build's save file.

    The firmware's serial port is begun anew by each QEMU: it is written on into a console's log.
    """
    bed.restore(name)
    if name == "firmware":
        bed.start("cd /var/log/xen; exec tail -qn +1 -F firmware.serial >>guest-firmware.log")
    return goes_on(bed, name, saved_ticks(name))


def listed(bed: Bed) -> list[str]:
    """Return the names of all guests."""
    return bed.must("xl list | tail -n +3 | cut -d' ' -f1").split()


def migrates_every_way(bed: Bed, name: str) -> None:
    """Migrate a guest in each of the `WAYS`; it runs after each, and nothing is left."""
    begin(bed, name)
    for sender, receiver in WAYS.values():
        before = bed.ticks(name)
        done = migrate(bed, sender, name, receiver)
        if (sender, name) == ("xl", "pv"):
            assert NO_SHADOW in done.err
        else:
            assert done.rc == 0, done.err
        assert listed(bed) == [name]
        goes_on(bed, name, before)
        assert bed.must("ls -A /run/xenqemu") == "lock\n"
