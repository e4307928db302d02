"""The words of the same refusal in the versions of QEMU.

======== ============================= ==============================
version  cannot open                   cannot write
======== ============================= ==============================
< 1.2    class OpenFileFailed          class IOError
< 9.1    "Unable to open …"            "An IO error has occurred"
later    "Could not create …"          "saving Xen device state failed"
======== ============================= ==============================

The names that were posted for review but never released belong to versions that never were: 1.0.6
is the sixth posting of the series, 1.0.7 the seventh.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from xenqemu.lab.reference_device_model.fdsets import PREFIX

Version = tuple[int, int, int]

SIXTH_POSTING: Version = (1, 0, 6)
SEVENTH_POSTING: Version = (1, 0, 7)
RELEASED: Version = (1, 1, 0)
ONE_CLASS: Version = (1, 2, 0)
LIVE: Version = (2, 11, 0)
BLOCKERS: Version = (6, 0, 0)
OTHER_WORDS: Version = (9, 1, 0)

_FDSET_WORDS = {
    errno.ENOENT: "Failed to find fdset {0}",
    errno.EACCES: "Failed to find file descriptor with matching flags=0x241",
    errno.EINVAL: "Failed to dup() given file descriptor of {0}",
}


class Refusal(Exception):
    """An error reply: its class, its words, and the data that classes had before 1.2."""

    def __init__(
        self, words: str, kind: str = "GenericError", data: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(words)
        self.words = words
        self.kind = kind
        self.data = data

    def message(self) -> dict[str, object]:
        """Return the reply."""
        error: dict[str, object] = {"class": self.kind, "desc": self.words}
        if self.data is not None:
            error["data"] = self.data
        return {"error": error}


def cannot_open(version: Version, filename: str, error: OSError) -> Refusal:
    """Return the refusal of a save whose file cannot be opened."""
    reason = os.strerror(error.errno or 0)
    if version < ONE_CLASS:
        data = {"filename": filename}
        return Refusal(f"Could not open '{filename}'", "OpenFileFailed", data)
    if version < OTHER_WORDS:
        return Refusal(f"Unable to open {filename}: {reason}")
    if filename.startswith(PREFIX) and error.errno in _FDSET_WORDS:
        return Refusal(_FDSET_WORDS[error.errno].format(filename))
    return Refusal(f"Could not create '{filename}': {reason}")


def cannot_write(version: Version) -> Refusal:
    """Return the refusal of a save whose file cannot be written."""
    if version < ONE_CLASS:
        return Refusal("An IO error has occurred", "IOError", {})
    if version < OTHER_WORDS:
        return Refusal("An IO error has occurred")
    return Refusal("saving Xen device state failed")
