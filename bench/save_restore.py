#!/usr/bin/env python3
"""Save and restore of a guest's memory beside `cp` of the same bytes, in one run, as ratios.

A lab guest fills its memory with data that is not zero; then each round times, one after the
other, the commands `xenqemu save -c`, `cp` of that save file, `xenqemu restore -p`, and the two
halves that move the memory alone.  Machines are shared and noisy, so only ratios of medians are
told: above 1 is faster than cp.

    bench/save_restore.py [--fill MIB] [--rounds N] [--folder DIR]      DIR: a tmpfs
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.lab.lab_host import Lab
from xenqemu.lab.ram_file import RamFile

ROOT = Path(__file__).parent.parent
GUEST = ROOT / ".cache" / "guest"
XENQEMU = [sys.executable, "-m", "xenqemu"]
CFG = """\
name = "bench"
type = "hvm"
memory = {memory}
kernel = "{guest}/vmlinuz"
ramdisk = "{guest}/initrd"
cmdline = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off fill={fill} {words}"
serial = "pty"
vga = "none"
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fill", type=int, default=2048, help="MiB of data in the guest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(dir=chosen.folder) as folder,
        hosts(Path(folder)) as (one, two),
    ):
        boot(one, chosen.fill)
        rounds = [measure(one, two, Path(folder)) for _ in range(chosen.rounds)]
    report(rounds, chosen.fill)


@contextmanager
def hosts(folder: Path) -> Iterator[tuple[Lab, Lab]]:
    """Yield two lab hosts that are up."""
    one, two = Lab(folder / "1"), Lab(folder / "2")
    try:
        one.up()
        two.up()
        yield one, two
    finally:
        one.down()
        two.down()


def boot(lab: Lab, fill: int, words: str = "") -> Path:
    """Start the guest and wait until its memory is full; return what it says, as a file.

    `words` are more of its kernel's command line.
    """
    config = lab.folder / "bench.cfg"
    config.write_text(CFG.format(memory=fill + 256, guest=GUEST, fill=fill, words=words))
    run(lab, "lab", "create", config)
    (domid,) = lab.hypervisor.domids()
    console = lab.guests / str(domid) / "console.log"
    deadline = time.monotonic() + 600
    while "tick" not in console.read_text(errors="replace"):
        if time.monotonic() > deadline:
            raise SystemExit("the guest does not come up")
        time.sleep(0.5)
    return console


def measure(one: Lab, two: Lab, folder: Path) -> dict[str, float]:
    """Time each act once, in seconds."""
    save_file, copy, image = folder / "save_file", folder / "copy", folder / "image"
    took = {
        "save -c": timed(lambda: run(one, "save", "-c", "bench", save_file)),
        "cp of the save file": timed(lambda: subprocess.run(["cp", save_file, copy], check=True)),
    }
    copy.unlink()
    took["restore -p"] = timed(lambda: run(two, "restore", "-p", save_file))
    run(two, "lab", "destroy", "bench")
    save_file.unlink()
    memory = one.hypervisor.memory(1)
    one.hypervisor.pause(1)
    took["memory out"] = timed(lambda: write(memory, image))
    took["cp of the image"] = timed(lambda: subprocess.run(["cp", image, copy], check=True))
    copy.unlink()
    took["memory in"] = timed(lambda: read(memory, image, copy))
    image.unlink()
    copy.unlink()
    one.hypervisor.unpause(1)
    return took


def run(lab: Lab, *words: str | Path) -> None:
    """Run a command of xenqemu."""
    subprocess.run(
        [*XENQEMU, "--host", f"lab:{lab.folder}", *words], check=True, stdout=subprocess.DEVNULL
    )


def timed(act: Callable[[], object]) -> float:
    """Return how long an act takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def write(memory: RamFile, image: Path) -> None:
    """Write an image of the memory."""
    with image.open("wb", buffering=0) as file:
        memory.save(Sink(file), lambda _done, _total: None)


def read(memory: RamFile, image: Path, ram: Path) -> None:
    """Read an image into a fresh RAM file of the same size."""
    with ram.open("wb") as file:
        os.truncate(file.fileno(), memory.layout.size)
    with image.open("rb") as source:
        again = RamFile(ram, memory.layout.size, memory.layout.below)
        again.load(Source(source), lambda _done, _total: None)


def report(rounds: list[dict[str, float]], fill: int) -> None:
    """Print medians and ratios."""
    median = {what: statistics.median(took[what] for took in rounds) for what in rounds[0]}
    print(f"{fill} MiB of data in the guest, {len(rounds)} rounds, medians")
    for what, reference in (
        ("save -c", "cp of the save file"),
        ("restore -p", "cp of the save file"),
        ("memory out", "cp of the image"),
        ("memory in", "cp of the image"),
    ):
        ratio = median[reference] / median[what]
        seconds = f"{median[what]:6.2f} s   {reference} {median[reference]:6.2f} s"
        print(f"{what:12} {seconds}   ratio {ratio:.2f}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(f"peak memory of a command: {peak} MiB")


if __name__ == "__main__":
    main()
