"""The same act for many guests, some at once: each by an operation of its own, in a thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from typing import TypeVar

from xenqemu.host.protocol import Host
from xenqemu.operations.journal.folder import Journals
from xenqemu.system.cancellation import SLICE

Each = TypeVar("Each")
Result = TypeVar("Result")


def at_once(
    host: Host,
    parallel: int,
    items: Sequence[Each],
    act: Callable[[Each], Result],
    note: Callable[[Each, Future[Result]], None],
) -> None:
    """Do `act` for each, `parallel` at once, and `note` each once it is done, in this thread.

    If this thread is interrupted, the operations that run are cancelled, and waited for.
    """
    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(act, item): item for item in items}
        try:
            for future in as_completed(futures):
                note(futures[future], future)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in futures):
                _cancel_own(host)
                wait(futures, SLICE)
            raise


def _cancel_own(host: Host) -> None:
    """Ask the operations of this process to end; each does so in order."""
    for found in Journals(host.journals).found():
        if found.running and found.about.pid == os.getpid():
            Journals(host.journals).cancel(found)
