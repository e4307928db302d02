"""The Xen hosts for the tests of this folder: each worker boots one at a time, and keeps it.

    def test_x(bed): ...                 runs on Xen 4.17 and on Xen 4.20
    def test_y(boot): …boot("4.17")      boots hosts of its own
    @ON_417, @ON_420                     on that one alone

Every test begins on a host without guests.  When one fails, the host's logs are in its report.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Generator, Iterator

import pluggy
import pytest

from tests.integration.xen.bed import MOST, SCRIPT, Bed
from tests.integration.xen.busy import looks_after_itself
from tests.integration.xen.devices import DOM0, WORDS, left
from tests.integration.xen.hosts import XENSTOREDS, Boots, on
from tests.parts import HOST, host_of

TIMEOUT = 300
"""Seconds for a test that does not say otherwise."""


@pytest.fixture(scope="session", params=on(*XENSTOREDS))
def xen_host(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """A running host; use `bed`."""
    with Bed(request.param, XENSTOREDS[request.param]) as bed:
        yield bed


@pytest.fixture
def bed(xen_host: Bed, record_property: Callable[[str, object], None]) -> Iterator[Bed]:
    """A host without guests."""
    record_property(HOST, f"Xen {xen_host.version}, up in {xen_host.boot_seconds:.0f} s")
    yield xen_host
    if not xen_host.lost:
        xen_host.clean()


@pytest.fixture
def boot() -> Iterator[Boots]:
    """What boots hosts for this test alone."""
    boots = Boots()
    yield boots
    for bed in boots:
        bed.__exit__()


@pytest.fixture
def busy(bed: Bed) -> Bed:
    """A host where that guest runs."""
    bed.restore("hvm")
    for words in ("rewrite 16 64", "frozen 20"):
        bed.tell("hvm", words)
    looks_after_itself(bed)
    return bed


@pytest.fixture
def disk(bed: Bed) -> Iterator[str]:
    """A disk in a file, and dom0 in the guests' network; in the end nothing is left of a guest."""
    bed.must(f"echo '{WORDS}' >/tmp/disk.img && truncate -s 4M /tmp/disk.img")
    bed.must(f"ip address replace {DOM0}/24 dev xenbr0")
    yield "/tmp/disk.img"
    if not bed.lost:
        bed.clean()
        assert left(bed) == ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test has its time, and where the machine is slow as many times that as its host has."""
    for item in items:
        if item.get_closest_marker("xen"):
            said = item.get_closest_marker("timeout")
            seconds = said.args[0] if said else TIMEOUT
            item.add_marker(pytest.mark.timeout(seconds * MOST), append=False)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None]:
    """Make the host, or wait until scripts/test has made it, before the test's time begins."""
    if item.get_closest_marker("xen"):
        build("all" if item.get_closest_marker("long") else host_of(item.nodeid))
    yield


@functools.cache
def build(version: str) -> None:
    subprocess.run([SCRIPT, "build", version], check=True)


def _hosts(item: pytest.Item) -> list[Bed]:
    """Return the hosts that a test has to do with."""
    given = getattr(item, "funcargs", {})
    shared = [given["xen_host"]] if "xen_host" in given else []
    return [*given.get("boot", ()), *shared]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    """The host's logs in the report of a failed test."""
    report = (yield).get_result()
    for host in _hosts(item) if report.failed else ():
        report.sections += [(f"Xen {host.version}: {n}", text) for n, text in host.logs().items()]
