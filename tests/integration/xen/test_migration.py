"""xenqemu beside stock xl on real Xen hosts: guests migrate within dom0, as xl lets them."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.integration.xen.bed import ROOT, Bed
from tests.integration.xen.hosts import GUESTS, ON_417, ON_420, XENQEMU, goes_on
from tests.integration.xen.migrations import (
    WE_RECEIVE,
    XL_RECEIVES,
    begin,
    listed,
    migrate,
    migrates_every_way,
)

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(1200)]

CFG = ROOT / "scripts/xenbed.d/guests/pvh.cfg"
UP_TO_READY = 54
UP_TO_REPORT = 54 + 34
"""Bytes that a receiver says before it is ready, and before it knows what became of the guest."""


def over(act: str, receiver: str, *, out: int = -1, back: int = -1) -> str:
    """Return the command of a way to a receiver that breaks."""
    relay = f"python3 /src/tests/doubles/peers/relay.py {out} {back} {act}"
    return f"exec {relay} {shlex.quote(receiver)}"


@ON_417
@pytest.mark.parametrize("name", sorted({*GUESTS} - {"hvm"}))
def test_guests_migrate_every_way(bed: Bed, name: str) -> None:
    migrates_every_way(bed, name)


@ON_420
def test_a_guest_migrates_every_way_on_the_newest_xen(bed: Bed) -> None:
    migrates_every_way(bed, "hvm")


STOCK_ONLY = """#!/bin/sh
shift
[ "$1" = xl ] || { echo "$1: command not found" >&2; exit 127; }
exec "$@"
"""


@ON_417
def test_a_host_without_xenqemu_is_found_out_and_left_paused(bed: Bed) -> None:
    """What `-s CMD` leads to is asked for a xenqemu first, then xl is asked what it knows."""
    begin(bed, "pvh")
    before = bed.ticks("pvh")
    script = bed.put("stock", STOCK_ONLY)
    big = bed.put("big.cfg", f"{CFG.read_text()}\nmemory = 8192\n")
    way = shlex.quote(f"sh {script}")
    refused = bed.run(f"{XENQEMU} migrate -s {way} -C {big} pvh elsewhere", timeout=300)
    assert refused.rc == 3
    assert re.search(
        r"elsewhere cannot take pvh: 1\. pvh needs 8192 MiB: \d+ MiB are free", refused.err
    )
    goes_on(bed, "pvh", before)
    before = bed.ticks("pvh")
    bed.must(f"{XENQEMU} migrate -s {way} -p pvh elsewhere", timeout=300)
    assert re.search(r"pvh +\d+ +\d+ +\d+ +--p---", bed.must("xl list pvh"))
    bed.must("xl unpause pvh")
    goes_on(bed, "pvh", before)


@ON_417
def test_every_reason_is_given_before_the_guest_is_touched(bed: Bed) -> None:
    begin(bed, "pvh")
    before = bed.ticks("pvh")
    devices = 'vif = ["bridge=nowhere"]\ndisk = ["/no.img,raw,xvda,w"]\n'
    cfg = bed.put("bad.cfg", f"{CFG.read_text()}\nmemory = 8192\n{devices}")
    done = bed.run(f"{XENQEMU} migrate -s '' -C {cfg} pvh '{WE_RECEIVE}'", timeout=300)
    assert done.rc == 3
    for reason in ("needs 8192 MiB", "needs the bridge nowhere", "needs /no.img as xvda"):
        assert reason in done.err, done.err
    goes_on(bed, "pvh", before)


@ON_417
def test_a_lost_reply_leaves_two_copies_named_and_one_running(bed: Bed) -> None:
    begin(bed, "hvm")
    before = bed.ticks("hvm")
    done = migrate(bed, XENQEMU, "hvm", over("cut", WE_RECEIVE, back=UP_TO_REPORT))
    assert done.rc == 13
    assert "is suspended here as hvm--migratedaway" in done.err
    goes_on(bed, "hvm", before)
    assert sorted(listed(bed)) == ["hvm", "hvm--migratedaway"]
    before = bed.ticks("hvm")
    told = bed.run(f"{XENQEMU} recover hvm", timeout=120)
    assert told.rc == 11
    assert "nobody here can tell which copy lives" in told.out
    stayed = bed.run(f"{XENQEMU} recover hvm --stayed", timeout=120)
    assert stayed.rc == 3
    assert "runs here: the guest has moved" in stayed.err
    bed.must(f"{XENQEMU} recover hvm --moved", timeout=120)
    assert listed(bed) == ["hvm"]
    goes_on(bed, "hvm", before)


@ON_417
@pytest.mark.parametrize(
    ("sender", "receiver", "options", "code"),
    [
        (XENQEMU, WE_RECEIVE, {"act": "kill-receiver", "back": UP_TO_READY}, 10),
        (XENQEMU, XL_RECEIVES, {"act": "cut", "out": 20_000_000}, 10),
        ("xl", WE_RECEIVE, {"act": "cut", "out": 20_000_000}, 1),
        (XENQEMU, WE_RECEIVE, {"act": "kill-sender", "out": 20_000_000}, -9),
    ],
    ids=["receiver killed", "cut off from xl", "cut off from us", "sender killed"],
)
def test_what_breaks_off_leaves_the_guest_where_it_was(
    bed: Bed, sender: str, receiver: str, options: dict[str, object], code: int
) -> None:
    begin(bed, "pvh")
    before = bed.ticks("pvh")
    way = over(receiver=receiver, **options)  # type: ignore[arg-type]
    command = f"{sender} migrate -s '' pvh {shlex.quote(way)}"
    done = bed.run(f"echo $$ > /tmp/sender; export SENDER=/tmp/sender; exec {command}", timeout=300)
    assert done.rc == code, done.err
    bed.must("until ! pgrep -f '[m]igrate-receive' >/dev/null; do sleep 0.5; done", timeout=120)
    bed.must(f"{XENQEMU} recover", timeout=120)
    assert listed(bed) == ["pvh"]
    assert bed.must("ls -A /run/xenqemu") == "lock\n"
    goes_on(bed, "pvh", before)
