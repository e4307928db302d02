"""Undo on failure, for acts that need no journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xenqemu.errors import HostError


@contextmanager
def undo_on_failure(what: str, undo: Callable[[], None]) -> Iterator[None]:
    """Run the block; if it fails, call `undo`.

    `what` completes the sentence "could not …": that becomes a note of the first error.
    """
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except (HostError, OSError) as second:
            error.add_note(f"could not {what}: {second}")
        raise
