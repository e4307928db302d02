"""Loop devices, by the kernel's own calls (linux/loop.h, loop(4)).

::

    struct loop_info64                      struct loop_config
      0  u64 lo_device      st_dev and        0  u32 fd
      8  u64 lo_inode       st_ino of the     4  u32 block_size       0: as the kernel chooses
     16  u64 lo_rdevice     backing file      8  loop_info64 info
     24  u64 lo_offset                      240  u64 reserved[8]
     32  u64 lo_sizelimit                   304
     40  u32 lo_number
     44  u32 lo_encrypt_type
     48  u32 lo_encrypt_key_size
     52  u32 lo_flags
     56  u8  lo_file_name[64]     free to use: here the tag
    120  u8  lo_crypt_name[64]
    184  u8  lo_encrypt_key[32]
    216  u64 lo_init[2]
    232

LOOP_CONFIGURE (Linux 5.8) binds, configures and tags the device in one step, or does nothing: of
two who were given the same free number one gets EBUSY and asks for the next.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xenqemu.errors import HostError, in_words
from xenqemu.frozen import Frozen
from xenqemu.system.retry import Retry
from xenqemu.system.undo import undo_on_failure

MAJOR = 7
"""The number that all loop devices have."""

_CONFIGURE = 0x4C0A
_CLR_FD = 0x4C01
_GET_STATUS64 = 0x4C05
_CTL_GET_FREE = 0x4C82

_READ_ONLY = 1
_DIRECT_IO = 16

_INFO = struct.Struct("=5Q4I64s64s32s16x")
_CONFIG = struct.Struct(f"=2I{_INFO.size}s64x")

_SYS = Path("/sys/block")


def _is_taken(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EBUSY


FREE_NUMBER = Retry(_is_taken, attempts=1024, seconds=10.0, pause=0.01)
"""For a free device that somebody else took first: nothing was done."""


class Loop(Frozen):
    """A bound loop device: what file it is bound to, by (st_dev, st_ino), and whose it is."""

    path: Path
    file: tuple[int, int]
    tag: str


@contextmanager
def attached(image: Path, tag: str, *, writable: bool) -> Iterator[Loop]:
    """Bind a free loop device to a file, past the page cache where the file system allows it.

    It stays after the block, unless that fails.  Raises `HostError` if no device is free.
    """
    try:
        mode = os.O_RDWR if writable else os.O_RDONLY
        with _opened(image, mode | os.O_NONBLOCK) as descriptor:  # it may be a FIFO by now
            path = FREE_NUMBER(lambda: _bind(descriptor, tag, writable))
            file = os.fstat(descriptor)
    except OSError as error:
        raise HostError(f"no loop device for {image}: {in_words(error)}") from error
    with undo_on_failure(f"detach {path}", lambda: detach(path)):
        yield Loop(path, (file.st_dev, file.st_ino), tag)


def detach(path: Path) -> None:
    """Unbind a loop device, at once or when the last who has it open closes it; may be repeated."""
    try:
        with _opened(path) as device:
            fcntl.ioctl(device, _CLR_FD)
    except OSError as error:
        if error.errno != errno.ENXIO:  # bound to nothing
            raise HostError(f"cannot detach {path}: {error.strerror}") from error


def status(path: Path) -> Loop | None:
    """Return what a loop device is bound to, None if to nothing or if there is no such device."""
    try:
        with _opened(path) as device:
            data = fcntl.ioctl(device, _GET_STATUS64, bytes(_INFO.size))
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT, errno.ENODEV):
            return None
        raise HostError(f"{path}: {error.strerror}") from error
    fields = _INFO.unpack(data)
    tag = fields[9].partition(b"\0")[0].decode(errors="replace")
    return Loop(path, (fields[0], fields[1]), tag)


def bound() -> Iterator[Loop]:
    """Yield all loop devices that are bound just now."""
    for folder in sorted(_SYS.glob("loop*/loop")):
        found = status(Path("/dev") / folder.parent.name)
        if found is not None:
            yield found


def _bind(descriptor: int, tag: str, writable: bool) -> Path:
    """Bind the next free device; raise EBUSY if it is not free any more."""
    with _opened(Path("/dev/loop-control"), os.O_RDWR) as control:
        path = Path(f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}")
    flags = _DIRECT_IO if writable else _DIRECT_IO | _READ_ONLY
    info = _INFO.pack(*[0] * 8, flags, tag.encode(), b"", b"")
    with _opened(path, os.O_RDWR if writable else os.O_RDONLY) as device:
        fcntl.ioctl(device, _CONFIGURE, _CONFIG.pack(descriptor, 0, info))
    return path


@contextmanager
def _opened(path: Path, mode: int = os.O_RDONLY) -> Iterator[int]:
    device = os.open(path, mode | os.O_CLOEXEC)
    try:
        yield device
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        os.close(device)
