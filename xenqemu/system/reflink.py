"""Parts of a file shared with another one instead of copied (ioctl_ficlonerange(2)).

::

    struct file_clone_range
      0  s64 src_fd
      8  u64 src_offset     multiples of the file system's block size
     16  u64 src_length
     24  u64 dest_offset
     32

XFS and btrfs can do so within one file system.  What is dirty in the source is written back first;
no other byte moves, so that it takes time by extents.  Each file keeps its contents when the other
one changes.
"""

from __future__ import annotations

import fcntl
import os
import struct

from xenqemu.system.free_space import fallocate

_CLONE_RANGE = 0x4020940D
_RANGE = struct.Struct("=q3Q")


def clone_range(source: int, start: int, size: int, target: int, place: int) -> None:
    """Have the file `target` share `size` bytes (1 or more) of the file `source`, from `start` on.

    They replace what is at `place` of the target.  All three are multiples of a block, but for a
    size up to the end of the source.  Raises the system's `OSError`, among others for file systems
    that cannot do so; how much was shared by then is not known.
    """
    fcntl.ioctl(target, _CLONE_RANGE, _RANGE.pack(source, start, size, place))


def can_clone(source: int, target: int) -> bool:
    """Return whether the kernel would share parts of the file `source` with the file `target`.

    It is asked to share nothing: for a size of 0 it takes what is between `start` and the end.
    """
    end = os.fstat(source).st_size
    try:
        fcntl.ioctl(target, _CLONE_RANGE, _RANGE.pack(source, end, 0, 0))
    except OSError:
        return False
    return True


def lay_out(file: int, size: int) -> None:
    """Have `size` bytes of a file lie in one piece where parts of it can be shared; else nothing.

    The fewer pieces it has, the less time takes it to share them.  A file system that has too
    little space in one piece, or at all, leaves the file as it is, with holes.
    """
    if can_clone(file, file):
        fallocate(file, 0, size)
