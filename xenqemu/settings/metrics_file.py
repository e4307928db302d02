"""Metrics of operations, in a file for the textfile collector of Prometheus' node exporter.

::

    # TYPE xenqemu_operations_total counter
    xenqemu_operations_total{verb="save",result="done"} 17

What the file says is added to; it is replaced as a whole, by one process at a time.  A file that
says something else is none of ours, and left as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from xenqemu.errors import in_words
from xenqemu.host.ended_operation import EndedOperation, Result
from xenqemu.system.flock import locked_within

LIMIT = 4 << 20
"""Bytes of the file at most; a guest takes some 300."""

LOCK_TIMEOUT = 5.0

HELP = {
    "xenqemu_operations_total": ("counter", "Operations that have ended, by their result."),
    "xenqemu_operation_seconds_total": ("counter", "Seconds that operations took."),
    "xenqemu_phase_seconds_total": ("counter", "Seconds that their phases took."),
    "xenqemu_memory_bytes_total": ("counter", "Bytes of guest memory that were moved."),
    "xenqemu_downtime_seconds": ("gauge", "Downtime of the guest in its last operation."),
    "xenqemu_last_success_timestamp_seconds": ("gauge", "When an operation last succeeded."),
    "xenqemu_last_failure_timestamp_seconds": ("gauge", "When an operation last failed."),
}
"""Each metric, its type, and what it means."""

_SAMPLE = re.compile(r'([a-z_]{1,80})\{((?:[^"\n]|"(?:[^"\\\n]|\\.)*")*)\} ([0-9.e+-]{1,40})')
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Samples = dict[tuple[str, str], float]
"""Values by metric and labels, as they are written."""


def count(file: Path, ended: EndedOperation) -> None:
    """Add an operation to a file; raise `OSError` if it cannot be written, or is none of ours."""
    lock = os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not locked_within(LOCK_TIMEOUT, lock):
            raise TimeoutError(f"{file} is being written for {LOCK_TIMEOUT:g} s")
        samples = _read(file)
        _add(samples, ended)
        draft = file.with_name(f".{file.name}.draft")  # the collector reads *.prom
        draft.write_text("\n".join([*_lines(samples), ""]))
        draft.chmod(0o644)
        draft.replace(file)
    finally:
        os.close(lock)


def _add(samples: Samples, ended: EndedOperation) -> None:
    verb, guest = {"verb": ended.verb}, {"verb": ended.verb, "guest": ended.name}

    def add(name: str, labels: dict[str, str], value: float) -> None:
        key = (name, _labels(labels))
        samples[key] = samples.get(key, 0.0) + value

    add("xenqemu_operations_total", {**verb, "result": ended.result.value}, 1)
    add("xenqemu_operation_seconds_total", verb, ended.seconds)
    add("xenqemu_memory_bytes_total", verb, ended.size)
    for phase, _began, seconds in ended.phases:
        add("xenqemu_phase_seconds_total", {**verb, "phase": phase}, seconds)
    done = ended.result is Result.DONE
    if done:
        samples["xenqemu_downtime_seconds", _labels(guest)] = ended.downtime
    last = "success" if done else "failure"
    when = ended.began + ended.seconds
    samples[f"xenqemu_last_{last}_timestamp_seconds", _labels(guest)] = when


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


def _read(file: Path) -> Samples:
    try:
        with file.open("rb") as opened:
            text = opened.read(LIMIT + 1).decode()
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OSError(f"{file}: {in_words(error)}") from error
    if len(text) > LIMIT:
        raise OSError(f"{file} has more than {LIMIT} bytes")
    return dict(_samples(file, text))


def _samples(file: Path, text: str) -> Iterator[tuple[tuple[str, str], float]]:
    for line in text.split("\n"):
        if not line or line.startswith("#"):
            continue
        found = _SAMPLE.fullmatch(line)
        if found is None or found[1] not in HELP:
            raise OSError(f"{file} is no file of ours: {line[:80]!r}")
        yield (found[1], found[2]), float(found[3])


def _lines(samples: Samples) -> Iterator[str]:
    for name, (kind, text) in HELP.items():
        mine = {labels: value for (metric, labels), value in samples.items() if metric == name}
        if mine:
            yield f"# HELP {name} {text}"
            yield f"# TYPE {name} {kind}"
            yield from (f"{name}{{{labels}}} {value:.15g}" for labels, value in mine.items())
