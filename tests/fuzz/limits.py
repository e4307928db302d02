"""Processor time and memory that one input may take.

Time is that of the processor, so that a busy machine changes nothing.  Memory is address space:
to ask for too much fails at once, whether it would have been touched or not.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class TooSlow(BaseException):
    """The time is over; no `except Exception` may swallow that."""


@contextmanager
def limited(seconds: float, memory: int) -> Iterator[None]:
    """Raise `TooSlow` or `MemoryError` in the block that takes more; `memory` is in bytes.

    For the main thread.
    """
    limits = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGPROF, _stop)
    limit_memory(memory)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGPROF, before)


def limit_memory(more: int) -> None:
    """Limit this process to so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, most))


def _stop(*_signal: object) -> NoReturn:
    raise TooSlow
