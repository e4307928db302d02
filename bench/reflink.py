#!/usr/bin/env python3
"""Save and restore of a guest's memory on a file system that shares it, beside `cp`, as ratios.

A RAM file full of data lies on a fresh XFS or btrfs in a loop device.  Each round times, one after
the other, `cp --reflink=never` of it, the save of the memory, and the restore: the two halves that
move memory, without QEMU and without digests, but with the tables of all pages.  The same is done
for two sparse guests that differ in size alone.  Needs root, for the loop device.

    bench/reflink.py [xfs|btrfs] [--fill MIB] [--rounds N] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
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
from xenqemu.lab import ram_folder
from xenqemu.lab.command_line import BELOW
from xenqemu.lab.ram_file import RamFile

MIB, GIB = 1 << 20, 1 << 30
TOUCHED = 340
"""MiB that the sparse guests have touched, in pieces of `PIECE` MiB."""
PIECE = 4
SPARSE = (4, 64)
"""GiB of these two."""


def main() -> None:
    """Mount the file system where nobody else sees it, run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", nargs="?", choices=("xfs", "btrfs"), default="xfs")
    parser.add_argument("--fill", type=int, default=2048, help="MiB of data in the guest")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.inside:
        run(chosen)
        return
    with tempfile.TemporaryDirectory() as folder:
        image, place = Path(folder) / "disk", Path(folder) / "mounted"
        with image.open("wb") as file:
            file.truncate((3 * chosen.fill + 4 * TOUCHED + 1024) * MIB)
        subprocess.run([f"mkfs.{chosen.kind}", "-q", "-f", image], check=True, capture_output=True)
        place.mkdir()
        script = 'mount -o loop "$0" "$1" && shift && exec "$@"'
        again = [sys.executable, __file__, *sys.argv[1:], "--inside", place]
        subprocess.run(["unshare", "-m", "sh", "-c", script, image, place, *again], check=True)


def run(chosen: argparse.Namespace) -> None:
    """Measure in a mounted folder."""
    folder: Path = chosen.inside
    full = make(folder / "full", chosen.fill * MIB, range(0, chosen.fill, PIECE))
    rounds: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for name, seconds in measure(folder, full).items():
            rounds.setdefault(name, []).append(seconds)
    found = {f"{part} / cp": ratios(rounds["cp"], rounds[part]) for part in ("save", "restore")}
    found["save with fsync / cp"] = ratios(rounds["cp"], rounds["save with fsync"])
    (folder / "full").unlink()
    small, large = (sparse(folder, size * GIB) for size in SPARSE)
    both = [(save(folder, small), save(folder, large)) for _ in range(chosen.rounds)]
    name = f"time of {SPARSE[1]} GiB / {SPARSE[0]} GiB, {TOUCHED} MiB touched"
    found[name] = ratios([each[1] for each in both], [each[0] for each in both])
    if chosen.json:
        print(json.dumps({"kind": chosen.kind, "fill": chosen.fill, "ratios": found, **rounds}))
        return
    print(f"{chosen.kind}, {chosen.fill} MiB, {chosen.rounds} rounds: median (least to most)")
    for name, (middle, least, most) in found.items():
        print(f"  {name:45} {middle:7.2f} ({least:.2f} to {most:.2f})")


def ratios(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Return the median of the ratios of pairs, and the least and most of them."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    return statistics.median(each), min(each), max(each)


def make(path: Path, size: int, places: range) -> RamFile:
    """Return a RAM file that has data in `PIECE` MiB from each of the places (MiB) on."""
    ram_folder.create_file(path, None, size)
    data = os.urandom(PIECE * MIB)
    with path.open("r+b", buffering=0) as file:
        for place in places:
            os.pwrite(file.fileno(), data[: size - place * MIB], place * MIB)
        os.fsync(file.fileno())
    return RamFile(path, size, min(size, BELOW))


def sparse(folder: Path, size: int) -> RamFile:
    """Return the RAM file of a guest that has touched little, all over its memory."""
    count = TOUCHED // PIECE
    return make(folder / f"sparse{size}", size, range(0, size // MIB, size // MIB // count))


def measure(folder: Path, ram: RamFile) -> dict[str, float]:
    """Return the seconds of each part of a round."""
    copy = ["cp", "--reflink=never", folder / "full", folder / "copy"]
    found = {"cp": timed(lambda: subprocess.run(copy, check=True))}
    (folder / "copy").unlink()
    with written(folder, ram) as (file, start, seconds):
        found["save"] = seconds
        found["save with fsync"] = seconds + timed(lambda: os.fsync(file))
        size = ram.layout.size
        ram_folder.create_file(folder / "again", None, size)
        again = RamFile(folder / "again", size, min(size, BELOW))
        with (folder / "save").open("rb") as save_file:
            save_file.seek(start)
            found["restore"] = timed(lambda: again.load(Source(save_file), unheard))
        (folder / "again").unlink()
    return found


def save(folder: Path, ram: RamFile) -> float:
    """Return the seconds of a save."""
    with written(folder, ram) as (_file, _start, seconds):
        return seconds


@contextmanager
def written(folder: Path, ram: RamFile) -> Iterator[tuple[int, int, float]]:
    """Have an image written; yield its file, where it begins, and the seconds that took."""
    with (folder / "save").open("w+b", buffering=0) as file:
        sink = Sink(file, align_pages=True)
        start = -ram.size_before_pages() % 4096
        sink.write(bytes(start))
        seconds = timed(lambda: ram.save(sink, unheard))
        yield file.fileno(), start, seconds
    (folder / "save").unlink()


def unheard(_done: int, _total: int) -> None:
    """Show no progress."""


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that `act` takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
