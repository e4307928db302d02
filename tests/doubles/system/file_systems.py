"""File systems for one test, mounted where nobody else sees them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REFLINKING = ("xfs", "btrfs")
"""File systems that let files share what they have; the smallest disk for one has `LEAST` bytes."""

LEAST = 300 << 20

KEEP = 'mount "$@" && echo mounted && exec cat'


@contextmanager
def mounted(*what: str) -> Iterator[Path]:
    """Mount what mount(8) is told, for the block: it is gone with the process that sees it."""
    private = ["unshare", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    with tempfile.TemporaryDirectory() as place:
        command = [*private, "sh", "-c", KEEP, "sh", *what, place]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as keeper:
            try:
                assert keeper.stdout.readline() == b"mounted\n"
                yield Path(f"/proc/{keeper.pid}/root{place}")
            finally:
                keeper.kill()


@contextmanager
def tmpfs(size: int) -> Iterator[Path]:
    """Have a file system of so many bytes, in memory."""
    with mounted("-t", "tmpfs", "-o", f"size={size}", "none") as folder:
        yield folder


@contextmanager
def disk(kind: str, size: int) -> Iterator[Path]:
    """Have a file system of that kind on a disk of so many bytes, which is a file."""
    with tempfile.NamedTemporaryFile() as image:
        image.truncate(size)
        force = "-f" if kind in REFLINKING else "-F"
        make = [f"mkfs.{kind}", "-q", force, image.name]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        with mounted("-o", "loop", image.name) as folder:
            yield folder
