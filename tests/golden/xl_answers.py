"""Some hundred xl.cfg files, a key or two in each, and what the xl of two releases says of them.

::

    xlcfg/keys.cases              ### TYPE NAME, then lines that are added to a small file;
                                  for "any" type there are three files, for "none" the lines are all
    xlcfg/keys-4.17.jsonl.zst     [NAME, exit status, JSON or null, what xl says] for each file

`python -m tests.golden.xl_answers 4.17 xl` writes the answers of an xl anew.  xlcfg/README.md says
how it can be asked where Xen does not run.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

FOLDER = Path(__file__).parent / "xlcfg"
RELEASES = ("4.17", "4.20")
UUID = "11111111-2222-3333-4444-555555555555"
GREETING = "Parsing config from "
KEY = b"### "


class Answer(NamedTuple):
    """What xl makes of a file: its exit status, the JSON and what it says."""

    status: int
    tree: Any
    said: str


@cache
def cases() -> dict[str, bytes]:
    """Return the files by their names."""
    return dict(_cases((FOLDER / "keys.cases").read_bytes()))


@cache
def answers(release: str) -> dict[str, Answer]:
    """Return what an xl says of each file."""
    packed = (FOLDER / f"keys-{release}.jsonl.zst").read_bytes()
    lines = zstandard.decompress(packed).splitlines()
    return {name: Answer(*rest) for name, *rest in map(json.loads, lines)}


def _cases(text: bytes) -> Iterator[tuple[str, bytes]]:
    for part in text.split(KEY)[1:]:
        head, _, lines = part.partition(b"\n")
        kind, name = head.decode().split()
        for each in ("hvm", "pv", "pvh") if kind == "any" else (kind,):
            yield f"{each}-{name}", _file(each, lines)


def _file(kind: str, lines: bytes) -> bytes:
    if kind == "none":
        return lines
    kernel = "" if kind == "hvm" else 'kernel = "/guests/vmlinuz"\n'
    head = f'name = "k"\ntype = "{kind}"\nuuid = "{UUID}"\n{kernel}vcpus = 1\nmemory = 128\n'
    return head.encode() + lines


def ask(xl: list[str], text: bytes) -> Answer:
    """Return what a program says of a file."""
    with tempfile.NamedTemporaryFile(suffix=".cfg") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([*xl, "-N", "create", file.name], capture_output=True, check=False)
        said = done.stderr.decode(errors="backslashreplace").replace(file.name, "x.cfg")
    lines = [line for line in said.splitlines() if not line.startswith(GREETING)]
    tree = None if done.returncode else json.loads(done.stdout)
    return Answer(done.returncode, tree, "\n".join(lines))


def main(release: str, *xl: str) -> None:
    """Write the answers of an xl."""
    lines = [json.dumps([name, *ask(list(xl), text)]) for name, text in cases().items()]
    packed = zstandard.compress("\n".join(lines).encode(), 19)
    (FOLDER / f"keys-{release}.jsonl.zst").write_bytes(packed)


if __name__ == "__main__":
    main(*sys.argv[1:])
