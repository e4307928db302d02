"""Make xenqemu.pyz: one file that needs nothing but Python.

    pyz.py CHECKOUT BUNDLED INTO EPOCH

CHECKOUT/xenqemu and what pip has put in BUNDLED get into the file INTO, as source and as bytecode
of this Python; another version of Python takes the source.  The same input gives the same bytes:
files are in order and of the time EPOCH (Unix), and bytecode says nothing of this machine.
"""

from __future__ import annotations

import py_compile
import stat
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

SHEBANG = b"#!/usr/bin/python3 -I\n"
KINDS = (".py", ".json", ".typed")
MODES = (stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755)
FIRST_YEAR = 315532800
"""1980, in Unix time: a zip knows none before."""


def files(checkout: Path, bundled: Path) -> dict[str, Path]:
    """Return the place of each file by its name in the archive."""
    here = Path(__file__).with_name("__main__.py")
    found = {here.name: here, "LICENSE": checkout / "LICENSE"}
    for root, folder in ((checkout, checkout / "xenqemu"), (bundled, bundled)):
        for path in folder.rglob("*"):
            name = path.relative_to(root).as_posix()
            told = ".dist-info/" in name and (path.name == "METADATA" or "licen" in name.lower())
            if path.is_file() and (path.suffix in KINDS or told):
                found[name] = path
    return found


def folders(names: Iterable[str]) -> set[str]:
    """Return the folders of files: a package without `__init__` is found by its entry."""
    return {f"{parent}/" for name in names for parent in PurePosixPath(name).parents[:-1]}


def bytecode(name: str, path: Path) -> bytes:
    """Return the bytecode of a module, which says that it is of `name`."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.pyc"
        py_compile.compile(
            str(path),
            str(made),
            f"xenqemu.pyz/{name}",
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        return made.read_bytes()


def entries(found: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each entry, in order."""
    for name in sorted({*found, *folders(found)}):
        if name.endswith("/"):
            yield name, b""
            continue
        yield name, found[name].read_bytes()
        if name.endswith(".py"):
            yield f"{name}c", bytecode(name, found[name])


def make(checkout: Path, bundled: Path, into: Path, epoch: int) -> None:
    """Write the file, executable, under its name once it is whole."""
    when = time.gmtime(max(epoch, FIRST_YEAR))[:6]
    draft = into.with_name(f".{into.name}.draft")
    with draft.open("wb") as out:
        out.write(SHEBANG)
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in entries(files(checkout, bundled)):
                entry = zipfile.ZipInfo(name, when)
                entry.external_attr = MODES[name.endswith("/")] << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, data)
    draft.chmod(0o755)
    draft.replace(into)


if __name__ == "__main__":
    make(*map(Path, sys.argv[1:4]), int(sys.argv[4]))
