"""Where the RAM files of a host's guests are: beside their other files, or in a folder of choice.

::

    DIR/ram             a link to the folder, if one was chosen: on a disk, say, which can share
                        what a RAM file has with a save file there
    DIR/guests/N/ram    the RAM file, or a link to it, which was there before it
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from xenqemu.system.descriptors import opened_folder
from xenqemu.system.reflink import lay_out

RAM = "ram"
"""The name of both links."""


def choose(lab: Path, folder: Path) -> None:
    """Have the RAM files of guests that are made from now on be in `folder`."""
    draft = lab / f"{RAM}.new"
    draft.unlink(missing_ok=True)
    draft.symlink_to(folder.absolute())
    draft.rename(lab / RAM)


def chosen(lab: Path) -> Path | None:
    """Return the folder that was chosen, None if none was."""
    with suppress(FileNotFoundError):
        return (lab / RAM).readlink()
    return None


def create_file(path: Path, folder: Path | None, size: int) -> None:
    """Make the RAM file `path`, empty, of `size` bytes; in `folder`, if there is one, by a link."""
    if folder is not None:
        path.symlink_to(folder / f"{path.parent.name}-{os.urandom(4).hex()}")
        path = path.readlink()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, size)
        lay_out(file, size)
    finally:
        os.close(file)


def link_file(path: Path, folder: Path | None, shared: Path) -> None:
    """Make `path` another name of the RAM file `shared`; in `folder`, as `create_file`."""
    if folder is not None:
        path.symlink_to(folder / f"{path.parent.name}-{os.urandom(4).hex()}")
        path = path.readlink()
    # Only with a folder's descriptor does Python follow the link that /proc/self/fd/N is.
    with opened_folder(path.parent) as where:
        os.link(shared, path.name, src_dir_fd=where, dst_dir_fd=where, follow_symlinks=True)


def remove_file(path: Path) -> None:
    """Remove a RAM file that is reached by a link; nothing if there is none, or no link."""
    if path.is_symlink():
        path.readlink().unlink(missing_ok=True)
