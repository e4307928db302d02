"""Sealing a save file that is there already, as xl wrote it: no byte of it is moved.

The seal is put behind END and synced before its footer is written: what a crash leaves is a whole
seal, or a file that ends in a torn one, which is cut off when it is sealed anew.  The time of the
file stays what it was: it says when its guest was saved.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xenqemu.errors import InUse, Truncated, Unsupported, UsageError
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.seal import FOOTER, LIMIT, behind
from xenqemu.formats.stream.seal_passing import SealedInlet
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source, file_size, read_at
from xenqemu.host.trust import DEFAULT_TRUST, Trust
from xenqemu.operations.inspect import Contents
from xenqemu.operations.reading_seals import seal_of
from xenqemu.operations.sealing import TOO_BIG, seal_for
from xenqemu.operations.verify import checked_contents, verify
from xenqemu.system.cancellation import check_often
from xenqemu.system.descriptors import kind_of
from xenqemu.system.writers import require_owned, trusted_ids

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def seal_file(path: Path, key: bytes | None = None, trust: Trust = DEFAULT_TRUST) -> Contents:
    """Seal the save file `path` and return what it holds.

    One that is sealed already is compared with its seal, and stays as it is.  Raises `FormatError`
    for what is no sound save file, `UsageError` for what cannot be sealed or is sealed with another
    key, `OSError` where it cannot be written: it is as it was then, or ends in a torn seal.
    """
    with _opened(path, trust) as file:
        if seal_of(file, key) is not None:
            return verify(file, key)
        before = os.fstat(file.fileno())
        inlet = SealedInlet(file, key)
        found = checked_contents(Source(inlet, check=check_often))
        if found.kind is not Layer.XL or found.checkpoints:
            raise Unsupported("stream", 0, "a save file of xl with one image", found.kind.name)
        if found.trailing:
            _cut_torn(file, found.size, key)
        followed = inlet.followed
        pieces = followed.found()
        if pieces is None:
            raise UsageError(f"{path}: {TOO_BIG}")
        seal = seal_for(file, pieces, followed.index, found, key=key)
        packed = seal.pack(key)
        _append(file, found.size, packed)
        os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))
        os.fsync(file.fileno())
        found.take_seal(seal, len(packed))
    return found


def _cut_torn(file: BinaryIO, end: int, key: bytes | None) -> None:
    """Cut off a torn seal behind `end`; raise `UsageError` for anything else that is there."""
    size = file_size(file) - end
    data = read_at(file, end, min(size, LIMIT))
    try:
        behind(data, end, key)
    except Truncated:
        torn = True
    else:
        torn = not any(data)  # what a crash leaves of a file that had grown
    if not torn or size > LIMIT:
        raise UsageError(f"{file.name}: the {size} bytes after END are no seal")
    os.ftruncate(file.fileno(), end)
    os.fsync(file.fileno())


def _append(file: BinaryIO, end: int, seal: bytes) -> None:
    """Write a seal at `end`, its footer last, each synced."""
    file.seek(end)
    for part in (seal[: -FOOTER.size], seal[-FOOTER.size :]):
        Sink(file).write(part)
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path, trust: Trust) -> Iterator[BinaryIO]:
    """Open a regular file to read and write it, which nobody else is sealing."""
    fd = os.open(path, _FLAGS)
    with open(path, "r+b", buffering=0, opener=lambda *_: fd) as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} cannot be sealed: it is {kind_of(status.st_mode)}")
        require_owned(path, status, trusted_ids(trust.owners))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(f"{path} is being sealed by another process") from error
        yield file
