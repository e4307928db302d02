"""Shared by all tests: the root on the path, how workers share the tests, where the time went."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.parts import HOST, PARTS, host_of, part_of

# What helpers assert is explained as in tests.
pytest.register_assert_rewrite("tests.doubles", "tests.integration")

# A machine that is busy makes examples slow, not wrong.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("here")

# A shell that runs us in the background has us, and all that we start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

XEN_WORKERS = 2
BY_FILE = ("tests/integration/lab/test_network.py",)
"""Files of the lab whose tests share network namespaces, which are the machine's."""

BEFORE = "XENQEMU_TEST_PARTS"
"""Names the file where scripts/test notes what it did before, as lines of "SECONDS PART"."""


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Deals the tests out to the workers in their order, by files; the lab's one by one.

    A worker boots the Xen host that its tests want, so those on one version stay together.  Two
    workers have Xen hosts, for there are two processors; the others have the other tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        alone = part_of(nodeid) == "lab" and file not in BY_FILE
        return nodeid if alone else f"{file} {host_of(nodeid)}"

    def _assign_work_unit(self, node: WorkerController) -> None:
        if self.nodes.index(node) >= XEN_WORKERS:
            other = (scope for scope in self.workqueue if part_of(scope) != "Xen")
            self.workqueue.move_to_end(next(other, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Sharing:
    """Deal in our order, not by how many tests a file has."""
    config.option.loadscopereorder = False
    return Sharing(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: the Xen hosts, version by version, then the lab."""
    order = [*PARTS.values(), "unit"]
    items.sort(key=lambda item: (order.index(part_of(item.nodeid)), host_of(item.nodeid)))


class Clock:
    """Sums up for how long the tests of each part, with their fixtures, kept a worker."""

    def __init__(self) -> None:
        self._seconds = Counter[str]()
        self._hosts = Counter[str]()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the time of a test."""
        self._seconds[part_of(report.nodeid)] += report.duration  # type: ignore[assignment]
        self._hosts.update(str(words) for name, words in report.user_properties if name == HOST)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the time went, before the tests too."""
        file = Path(os.environ.get(BEFORE, os.devnull))
        before = [line.partition(" ")[::2] for line in file.read_text().splitlines()]
        parts = [f"{part} {seconds} s" for seconds, part in before]
        parts += [f"{part} tests {took:.0f} s" for part, took in self._seconds.most_common()]
        lines = [*sorted(self._hosts), f"where the time went: {', '.join(parts)}"]
        for line in lines:
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    """Take the time."""
    config.pluginmanager.register(Clock())
