"""Guests that are saved and sent while they run and change their memory: none of it is wrong."""

from __future__ import annotations

import json
import shlex
import signal
import time
from typing import Any

import pytest

from tests.integration.lab.guests import Guest, Host, Seed, assert_same_memory, at, pages
from tests.integration.moments import DIE
from tests.parts import shortened

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

ITERATIONS = ("--live", "--iterations", "8", "--threshold", "0")
"""As many iterations as there may be: this guest is never still."""


@pytest.fixture
def busy(busy_seed: Seed, one: Host) -> Guest:
    """The guest that rewrites its memory, running on `one`."""
    guest = busy_seed.on(one)
    guest.wait_rewritten()
    return guest


def iterations(out: str) -> list[dict[str, Any]]:
    """Return the iterations that a command told of as lines of JSON."""
    told = [json.loads(line) for line in out.splitlines()]
    return [event for event in told if event.get("event") == "iteration"]


def test_a_guest_goes_on_here_and_from_its_record(busy, one, two, folder):
    told = iterations(one.must("save", "-c", "--json", *ITERATIONS, busy.name, folder / "record"))
    assert [each["number"] for each in told] == list(range(1, len(told) + 1))
    assert 2 <= len(told) <= 9  # fewer where it was still, without a processor to run on
    assert all(each["pages"] for each in told[1:-1])
    busy.wait_rewritten()
    assert one.run("verify", folder / "record").code == 0
    there = two.restore(folder / "record")
    there.wait_rewritten(4)
    busy.wait_rewritten()


@pytest.mark.parametrize(
    "options", shortened([[], ["--compact"]], ["--compact"]), ids=["as it is", "compacted"]
)
def test_the_record_has_the_memory_as_it_was_frozen(busy, one, two, folder, options):
    record = folder / "record"
    one.must("save", "-p", *ITERATIONS, *options, busy.name, record)
    assert_same_memory(busy.ram, record)
    pfns = [pfn for pfn, _ in pages(record)]
    assert (len(pfns) == len(set(pfns))) == bool(options)
    one.must("lab", "destroy", busy.name)
    two.restore(record).wait_rewritten(4)


@pytest.mark.long
def test_a_guest_that_never_settles_is_left_alone_if_that_is_wanted(busy, one, folder):
    options = ("--live", "--max-downtime", "0", "--give-up", "--iterations", "3")
    done = one.run("save", *options, busy.name, folder / "record")
    assert done.code == 10
    assert "after 3 iterations" in done.err
    assert "the guest is as it was" in done.err
    assert list(folder.iterdir()) == []
    busy.wait_rewritten()
    one.must("save", *ITERATIONS, busy.name, folder / "record")


def test_a_live_save_that_is_killed(busy, one, folder):
    done = at(one, "save iteration", DIE, "save", "--live", busy.name, folder / "record")
    assert done.code == -signal.SIGKILL
    busy.wait_rewritten()
    assert json.loads(one.must("recover", "--json"))["recovered"]
    assert list(folder.iterdir()) == []
    busy.wait_rewritten()


@pytest.mark.long
def test_the_bandwidth_is_not_exceeded(busy, one, folder):
    """But after the suspend: what is measured are the iterations before."""
    limit = 64 << 20
    began = time.monotonic()
    told = iterations(one.must(
        "save", "-c", "--json", "--live", "--iterations", "2", "--bandwidth", str(limit),
        busy.name, folder / "record",
    ))  # fmt: skip
    assert sum(each["size"] for each in told[:2]) / limit <= time.monotonic() - began


def test_a_guest_moves_while_it_runs(busy, one, two):
    receiver = shlex.join(two.command("migrate-receive"))
    done = one.run("migrate", "--json", "-s", "", busy.name, receiver)
    assert done.code == 0, done.err
    assert len(iterations(done.out)) > 2
    two.guest(busy.name).wait_rewritten(4)
    assert one.empty()
