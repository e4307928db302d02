"""The long run: as many damaged inputs as there is time for, on all processors.

Prints each kind of failure once, with the command that gives it again, then a line a target.
Exits with 1 if anything failed.

Why the engine is our own: others, given the same samples and mutators, found no more in the same
time, 30 s a fault, one process.  That is weak evidence: few runs, on a busy machine, with mutators
made for ours, and hypothesis without its coverage.  Seconds until a planted fault was found, a run
each; "-": not found::

    fault (target)                                 ours            hypothesis      atheris
    errno above an int (save-helper)               0.5  0.1  0.2   1.2  17.6  1.7  10.6  0.4  5.1
    number of any length (xl-tables)               6.2  1.6  10.7  21.7  -  -      -  -  -
    id of a transaction above 32 bits (store)      -  7.4  -       -  -  -         29.0  -  -
    number of any length (xlcfg-devices)           0.0             0.4             4.4
    JSON too deep to be read (xl)                  0.0             3.0             0.2
    descriptor that is cut off (hvm)               0.0             0.1             0.0
    count of pages, depth of JSON without bound    -  -            -  -            -  -
    faults 1, 2, 4, 5 of tests/mutations.py        -  -  -  -      -  -  -  -      -  -  -  -

hypothesis tried 0.1 to 0.55 as many inputs in the same time.  The last two rows give
legal values or legal errors: no engine sees them here, the cases of the formats do.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.fuzz.engine import VALUE, Failure, Target
from tests.fuzz.migration import MIGRATION
from tests.fuzz.operations import OPERATIONS
from tests.fuzz.targets import FORMATS
from tests.fuzz.workers import Work, run

TARGETS = {target.name: target for target in (*FORMATS, *MIGRATION, *OPERATIONS)}
SECONDS = 60.0
WITHOUT_END = 1 << 40


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = _parser().parse_args(arguments)
    seeds = range(chosen.seed, chosen.seed + (chosen.inputs or WITHOUT_END))
    seconds = float("inf") if chosen.inputs else SECONDS
    for word in filter(_is_number, chosen.words):
        seconds = float(word)
    names = [word for word in chosen.words if not _is_number(word)]
    works = [Work(TARGETS[name], seeds) for name in names or TARGETS]
    print(f"seeds from {chosen.seed} on", flush=True)
    try:
        _watch(run(_prepared(works), chosen.jobs, seconds), chosen.into)
    except KeyboardInterrupt:
        print("interrupted")
    print(table(works))
    return int(any(work.failures for work in works))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("scripts/fuzz", description=__doc__.splitlines()[0])
    clock = time.time_ns() // 1000 % 10**9
    add = parser.add_argument
    add("--inputs", type=int, metavar="N", help="so many for each target, for no set time")
    add("--seed", type=int, default=clock, help="the first one (default: the clock)")
    add("--jobs", type=int, default=os.cpu_count(), help="processes at a time")
    add("--into", type=Path, metavar="FOLDER", help="where inputs that fail are put")
    add("words", nargs="*", type=_word, metavar="SECONDS|TARGET", help=", ".join(TARGETS))
    return parser


def _word(text: str) -> str:
    if text not in TARGETS and not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seconds nor a target")
    return text


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _prepared(works: Sequence[Work]) -> Sequence[Work]:
    """Have the samples made before the children are, so that they share them."""
    for work in works:
        work.target.samples()
    return works


def _watch(progress: Iterable[Work], folder: Path | None) -> None:
    known: set[str] = set()
    for work in progress:
        for failure in work.failures:
            if f"{failure.target} {failure.where}" not in known:
                known.add(f"{failure.target} {failure.where}")
                _tell(work.target, failure, folder)


def _tell(target: Target, failure: Failure, folder: Path | None) -> None:
    print(f"\n{failure.target} fails: {failure.what}\n{failure.details}".rstrip())
    print(f"again: scripts/fuzz --inputs 1 --seed {failure.seed} {failure.target}", flush=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{target.name}-{failure.seed}").write_bytes(target.input(failure.seed))


def table(works: Sequence[Work]) -> str:
    """Return what was done: inputs a target, how fast, and what came of them."""
    heads = ("TARGET", "INPUTS", "A SECOND", "VALUES", "ERRORS", "KINDS", "FAILURES")
    rows = [heads, *map(_row, works), _total(works)]
    return "\n".join("{:18}{:>10}{:>10}{:>10}{:>10}{:>8}{:>10}".format(*row) for row in rows)


def _row(work: Work) -> tuple[object, ...]:
    values = work.outcomes[VALUE]
    errors = work.outcomes.total() - values
    rate = round(work.inputs / work.seconds) if work.seconds else 0
    counts = (values, errors, len(work.outcomes), len(work.failures))
    return work.target.name, work.inputs, rate, *counts


def _total(works: Sequence[Work]) -> tuple[object, ...]:
    inputs, _, values, errors, kinds, failures = (
        sum(column) for column in zip(*(_row(work)[1:] for work in works), strict=True)
    )
    rate = round(inputs / max(sum(work.seconds for work in works), 1e-9))
    return "all", inputs, rate, values, errors, kinds, failures


if __name__ == "__main__":
    raise SystemExit(main())
