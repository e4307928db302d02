"""Rows without a guest: the memory alone, out of a RAM file, and a save file that is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from lab_guests import XENQEMU, command, without_guests
from row import Bench, Row, Values, in_turns, removed, timed, warmer

MIB = 1 << 20
BLOCK = 16 * MIB
BELOW = 3 << 30
"""Bytes of RAM under the PCI hole."""

TOUCHED = 340
"""MiB of data in a guest that is mostly untouched."""

XEN = Path("/usr/lib/xen-4.17")
CHECKER = XEN / "bin" / "verify-stream-v2"

ALONE = """\
import sys, time
from pathlib import Path
from xenqemu.formats.stream.sink import Sink
from xenqemu.lab.ram_file import RamFile
ram, size, below, out = sys.argv[1:]
memory = RamFile(Path(ram), int(size), int(below))
began = time.perf_counter()
with open(out, "wb", buffering=0) as file:
    memory.save(Sink(file), lambda done, total: None)
print(time.perf_counter() - began)
"""


def ram_file(path: Path, size: int, data: int) -> None:
    """Make a RAM file of `size` bytes, `data` of them random and the others never touched."""
    block = os.urandom(BLOCK)
    with path.open("wb") as file:
        for done in range(0, data, BLOCK):
            file.write(block[: data - done])
        file.truncate(size)


def alone(ram: Path, *, processors: str = "") -> float:
    """Return how long it takes to write the memory of a RAM file."""
    size = ram.stat().st_size
    with removed(ram.with_name("image")) as image:
        program = [sys.executable, "-c", ALONE, str(ram), str(size), str(min(size, BELOW))]
        bound = ["taskset", "-c", processors] if processors else []
        done = subprocess.run([*bound, *program, str(image)], check=True, capture_output=True)
    return float(done.stdout)


def workers(bench: Bench) -> Values:
    """The memory alone, on two processors and on one: there are as many workers."""
    with tempfile.TemporaryDirectory(dir=bench.memory) as folder:
        ram = Path(folder) / "ram"
        ram_file(ram, bench.mib * MIB, bench.mib * MIB)
        two, one = (partial(alone, ram, processors=which) for which in ("0,1", "0"))
        return in_turns(bench.rounds, two, one, warmer(bench))


def one_processor() -> str:
    """Return why two workers cannot be had."""
    if (os.cpu_count() or 1) < 2:
        return "there is one processor"
    return "" if shutil.which("taskset") else "there is no taskset"


def sparse(bench: Bench) -> Values:
    """The memory alone, 340 MiB of it touched, of a guest of 64 GiB and of one of 4 GiB."""
    with tempfile.TemporaryDirectory(dir=bench.memory) as folder:
        large, small = Path(folder) / "large", Path(folder) / "small"
        ram_file(large, 64 << 30, TOUCHED * MIB)
        ram_file(small, 4 << 30, TOUCHED * MIB)
        return in_turns(bench.rounds, partial(alone, large), partial(alone, small), speed=False)


def verify(bench: Bench) -> Values:
    """`verify` beside Xen's own checker, which looks at no digests."""
    guest = bench.guests.get(bench.mib)
    checker: list[str | Path] = ["env", f"PYTHONPATH={XEN}/lib/python", CHECKER]
    with removed(guest.folder / "kept") as file:
        guest.save(file)
        return in_turns(
            bench.rounds,
            lambda: timed(lambda: command([*XENQEMU, "verify", file])),
            lambda: timed(lambda: command([*checker, "-f", "xl", "-i", file])),
        )


def no_checker() -> str:
    """Return why a file cannot be checked by Xen's own program."""
    return without_guests() or ("" if CHECKER.exists() else f"there is no {CHECKER}")


FILE_ROWS = (
    Row(
        "workers", "memory alone, two workers", "one worker", ">= 1.6 times", workers, one_processor
    ),
    Row("sparse", "64 GiB, 340 MiB touched", "4 GiB, as many", "<= 1.2 of its time", sparse),
    Row("verify", "verify, with digests", "verify-stream-v2", "faster", verify, no_checker),
)
