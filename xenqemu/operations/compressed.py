"""Save files that are compressed while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from xenqemu.formats.stream.sink import Outlet
from xenqemu.operations.journal.operation import Operation


def require_codec(level: int | None, job: Operation) -> None:
    """Raise `HostError` if it is to be compressed, and nobody here can; note who does it slowly."""
    if level is not None:
        from xenqemu.system.zstd.codec import is_program  # noqa: PLC0415  few are compressed

        if is_program():
            job.note("python3-zstandard is not installed: the program zstd compresses, more slowly")


def packed_space(size: int) -> int:
    """Return how many bytes a compressed file has at most, with so many in it."""
    return size + (size >> 12) + (1 << 12)


@contextmanager
def compressed(out: BinaryIO | Outlet, level: int | None) -> Iterator[BinaryIO | Outlet]:
    """Yield where to write what gets compressed into `out`, or `out` itself without a level.

    After the block all of it is written.  Level 0 is as the target's pace has it (`Pace`).
    """
    if level is None:
        yield out
        return
    from xenqemu.system.zstd.codec import codec  # noqa: PLC0415  few are compressed
    from xenqemu.system.zstd.frame_outlet import FrameOutlet  # noqa: PLC0415  they start threads

    with FrameOutlet(out, codec(), level) as outlet:
        yield outlet
        outlet.finish()
