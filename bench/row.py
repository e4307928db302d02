"""A row of the table: one measure, by rounds in which ours and what it stands beside take turns."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab_guests import LabGuests

RESULTS = Path(__file__).parent / "results"
BEGAN = time.strftime("%Y-%m-%dT%H-%M-%S")
SHOWN = 300
"""Characters of why a row failed."""


@dataclass(frozen=True)
class Bench:
    """What the rows may use: folders in memory and on a disk, and guests of the lab."""

    rounds: int
    mib: int
    memory: Path
    disk: Path
    guests: LabGuests


@dataclass(frozen=True)
class Values:
    """What the rounds gave; `beside` is empty where a row stands alone.

    The ratio is `beside` by `ours` where that tells how fast we are, else `ours` by `beside`.
    """

    ours: list[float]
    beside: list[float]
    unit: str = "s"
    speed: bool = True

    def ratios(self) -> list[float]:
        """Return the ratio of each round."""
        pairs = zip(self.ours, self.beside, strict=True) if self.beside else ()
        return [theirs / ours if self.speed else ours / theirs for ours, theirs in pairs]

    def answer(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        told: dict[str, Any] = {"unit": self.unit, "ours": self.ours, "beside": self.beside}
        if ratios := self.ratios():
            ours, theirs = statistics.median(self.ours), statistics.median(self.beside)
            median = theirs / ours if self.speed else ours / theirs
            told["ratio"] = {"median": median, "min": min(ratios), "max": max(ratios)}
        return told


@dataclass(frozen=True)
class Row:
    """One measure; `missing` returns why this machine cannot run it, "" if it can."""

    name: str
    measure: str
    beside: str
    aim: str
    run: Callable[[Bench], Values]
    missing: Callable[[], str] = lambda: ""


def in_turns(
    rounds: int,
    ours: Callable[[], float],
    beside: Callable[[], float],
    before: Callable[[], object] = lambda: None,
    **about: Any,
) -> Values:
    """Call both, one after the other, so many times; `before` is called before each."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for values, act in zip(took, (ours, beside), strict=True):
            before()
            values.append(act())
    return Values(*took, **about)


def warmer(bench: Bench) -> Callable[[], None]:
    """Return what takes memory and gives it back, as much as a row uses.

    A virtual machine may give free memory back to its host after a second or two; who touches it
    then, pays for that, which is nothing of what is measured.
    """
    block = bytes(1 << 20)

    def warm() -> None:
        with tempfile.TemporaryFile(dir=bench.memory) as file:
            for _ in range(bench.mib + bench.mib // 4):
                file.write(block)

    return warm


def timed(act: Callable[[], object]) -> float:
    """Return how many seconds an act takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


@contextmanager
def removed(path: Path) -> Iterator[Path]:
    """Have a file that is made in the block gone after it."""
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def measured(row: Row, bench: Bench) -> dict[str, Any]:
    """Run a row; return its values, or why there are none."""
    told: dict[str, Any] = {
        "row": row.name,
        "measure": row.measure,
        "beside": row.beside,
        "aim": row.aim,
        "load": os.getloadavg()[0],
    }
    if why := row.missing():
        return told | {"skipped": why}
    try:
        return told | row.run(bench).answer()
    except subprocess.CalledProcessError as error:
        words = (error.stderr or b"").decode(errors="replace").strip() or str(error)
        return told | {"failed": words[:SHOWN]}
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        return told | {"failed": str(error)[:SHOWN]}


def shown(row: Row, answer: dict[str, Any]) -> str:
    """Return a row as a line."""
    for word in ("skipped", "failed"):
        if word in answer:
            return f"{row.name:18} {word}: {answer[word]}"
    unit = answer["unit"]
    line = f"{row.name:18} {statistics.median(answer['ours']):12,.4g} {unit}"
    if "ratio" in answer:
        ratio = answer["ratio"]
        line += f"   {row.beside} {statistics.median(answer['beside']):,.4g} {unit}"
        line += f"   ratio {ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
    return f"{line}   aim: {row.aim}"


def keep(answers: list[dict[str, Any]], file: Path | None) -> None:
    """Write what there is so far, with what it was measured on."""
    file = file or RESULTS / f"{BEGAN}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    machine = {
        "began": BEGAN,
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    file.write_text(json.dumps({"machine": machine, "rows": answers}, indent=1) + "\n")
