"""A guest that rewrites its memory while it is saved, and looks whether it is right."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from tests.integration.xen.bed import Bed
from tests.integration.xen.hosts import FILE, XENQEMU

LIVE = "--live --threshold 0 --iterations 4"
"""As many iterations as there may be: this guest is never still."""

REWRITTEN = re.compile(r"^rewritten (\d+)\r+\n", re.MULTILINE)
GAP = re.compile(r"^gap (\d+)\r+\n", re.MULTILINE)


def said(bed: Bed) -> str:
    """All that the guest has said since the test began, also as former domains."""
    return bed.said("hvm")


def looks_after_itself(bed: Bed, more: int = 3, timeout: float = 120) -> None:
    """Wait until it has gone over its memory for some more seconds, and found it right."""
    wanted = len(REWRITTEN.findall(said(bed))) + more
    deadline = time.monotonic() + timeout
    while len(REWRITTEN.findall(said(bed))) < wanted:
        bed.listen(lambda: False, 0.2)
        assert time.monotonic() < deadline, said(bed)[-500:]
    assert "WRONG" not in said(bed)


def iterations(out: str) -> list[dict[str, Any]]:
    """The iterations that a command told of as lines of JSON."""
    told = [json.loads(line) for line in out.splitlines()]
    return [event for event in told if event.get("event") == "iteration"]


def goes_on_here_and_from_its_record(busy: Bed) -> None:
    """Save a busy guest while it runs; both keep running, the saved one under xl and us."""
    told = iterations(busy.must(f"{XENQEMU} save -c --json {LIVE} hvm {FILE}", timeout=300))
    assert [each["number"] for each in told] == list(range(1, len(told) + 1))
    assert 2 <= len(told) <= 5  # fewer where it was still, without a processor to run on
    assert all(each["pages"] for each in told[:-1])
    looks_after_itself(busy)
    busy.must(f"verify-stream-v2 -f xl -i {FILE}", timeout=120)
    for restore in (f"xl restore {FILE}", f"{XENQEMU} restore {FILE}"):
        busy.must("xl destroy hvm")
        busy.must(restore, timeout=180)
        looks_after_itself(busy)
