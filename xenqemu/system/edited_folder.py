"""Folders of files that people write with editors, and packages install: what is none of theirs.

Such a folder also has what editors and packages keep beside a file.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

BESIDE = (
    *(".*", "*~", "#*#", "*.bak", "*.orig", "*.rej", "*.sw[a-p]", "*.save", "*.tmp", "*,v"),
    *("*.dpkg-*", "*.ucf-*", "*.rpmsave", "*.rpmnew", "*.rpmorig"),
)
"""Names of what is kept beside a file: by editors, patch, version control, dpkg, ucf and rpm."""


def is_beside(name: str) -> bool:
    """Return whether a name is that of a hidden file, or of a copy that a program made of one."""
    return any(fnmatchcase(name, pattern) for pattern in BESIDE)
