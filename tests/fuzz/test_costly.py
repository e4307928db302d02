"""Inputs made to be costly: memory has a bound, time is in proportion to size, an end is heard."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz import costly
from xenqemu.errors import Cancelled
from xenqemu.operations.verify import verify
from xenqemu.system.cancellation import Cancellation, cancellable

MOST_MEMORY = 128 << 20
"""Bytes that a process takes at most, with the interpreter, whatever it reads."""

SMALL, BIG = 1 << 18, 1 << 20
"""Bytes of the inputs whose times are compared."""

MOST_OF_PROPORTION, UNMEASURED = 2.5, 0.25
"""How much more time than in proportion is a finding, and the seconds that are none."""

READ = """
import sys, time
from xenqemu.formats.stream.source import Source
from xenqemu.operations.verify import checked_contents

for path in sys.argv[1:]:
    began = time.process_time()
    with open(path, "rb") as file:
        checked_contents(Source(file, seek=False))
    print(time.process_time() - began)
    with open("/proc/self/status") as status:
        print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Cost:
    """What reading took: seconds of the processor, and the most bytes so far."""

    seconds: float
    memory: int


def costs(*paths: Path) -> list[Cost]:
    """Return what each takes in one process, one after the other."""
    words = [sys.executable, "-c", READ, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=600)
    lines = iter(done.stdout.split())
    return [Cost(float(each), int(next(lines)) << 10) for each in lines]


@pytest.mark.parametrize("make", costly.COSTLY, ids=lambda make: make.__name__)
def test_costly_input_takes_bounded_memory_and_time_in_proportion(make, tmp_path):
    paths = [tmp_path / str(size) for size in (SMALL, BIG)]
    for path in paths:
        path.write_bytes(make(int(path.name)))
    _for_the_caches, small, big = costs(paths[0], *paths)
    assert big.memory < MOST_MEMORY
    proportion = paths[1].stat().st_size / paths[0].stat().st_size
    assert big.seconds < UNMEASURED + MOST_OF_PROPORTION * proportion * small.seconds


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_costly_inputs_of_many_mebibytes(tmp_path, capsys):
    """Prints what each takes, by its size."""
    for make in costly.COSTLY:
        paths = [tmp_path / str(mib) for mib in (8, 16, 32)]
        for path in paths:
            path.write_bytes(make(int(path.name) << 20))
        found = [costs(path)[0] for path in paths]  # else one has what another left behind
        words = [f"{each.seconds:6.2f} s {each.memory >> 20:3} MiB" for each in found]
        with capsys.disabled():
            print(f"{make.__name__:40}", *words)
        assert found[-1].memory < MOST_MEMORY, make.__name__


LATE = 3.0
"""Seconds after which an end that nobody heard is a finding; a check is due each 0.1."""


@pytest.mark.parametrize("make", costly.COSTLY, ids=lambda make: make.__name__)
def test_each_walk_hears_that_it_is_to_end(make, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(make(4 << 20))

    def end() -> None:
        raise Cancelled("cancelled")

    began = time.monotonic()
    with path.open("rb") as file, cancellable(Cancellation(end)), pytest.raises(Cancelled):
        verify(file)
    assert time.monotonic() - began < LATE
