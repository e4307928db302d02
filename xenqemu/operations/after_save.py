"""What happened after a save file was written, by the files themselves.

Disks are not part of a save file.  If a guest's image was changed after it, the restored guest has
in its memory what is no longer on its disk, and breaks its file systems.  An image is newer by the
time of its last change; `save` dates a save file when its guest is gone, and has closed its images.
That a save file was restored is noted in an extended attribute of it, which a copy does not have,
nor a new save file of that name.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.disk import lease

RESTORED = ("user.xenqemu.restored", "trusted.xenqemu.restored")
"""The attribute; its value is the Unix time of the last restore.

tmpfs has the first only since Linux 6.6; the second is root's alone.
"""

NOT_KEPT = (errno.EOPNOTSUPP, errno.EROFS, errno.EPERM, errno.EACCES, errno.ENOSPC, errno.EDQUOT)
"""Why a file's attribute cannot be set: its file system, or its owner, does not have that."""


def changed_images(config: DomainConfig, save_file: BinaryIO) -> Iterator[tuple[Path, str]]:
    """Yield the images that the guest writes and that are newer than its save file, and when.

    What a block device holds has no such time.
    """
    saved = os.fstat(save_file.fileno()).st_mtime_ns
    for image in lease.images(config):
        with suppress(FileNotFoundError):  # the host says that it is missing
            status = image.stat()
            if stat.S_ISREG(status.st_mode) and status.st_mtime_ns > saved:
                yield image, _in_words(status.st_mtime)


def restored_before(save_file: BinaryIO) -> str:
    """Return when a save file was restored, "" if it was not, as far as is known."""
    for name in RESTORED:
        try:
            value = os.getxattr(save_file.fileno(), name)
        except OSError as error:
            if error.errno not in (errno.ENODATA, *NOT_KEPT):
                raise
            continue
        seconds = value.decode(errors="replace")
        known = seconds.isascii() and seconds.isdecimal() and len(seconds) <= 10
        return _in_words(int(seconds)) if known else "at a time that is not known"
    return ""


def note_restored(save_file: BinaryIO) -> None:
    """Note that a save file is restored now, where its file system keeps that."""
    for name in RESTORED:
        try:
            os.setxattr(save_file.fileno(), name, str(int(time.time())).encode())
        except OSError as error:
            if error.errno not in NOT_KEPT:
                raise
        else:
            return


def _in_words(seconds: float) -> str:
    return time.strftime("%F %T", time.localtime(seconds))
