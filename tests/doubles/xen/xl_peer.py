"""An xl that does what a test tells it, for what cannot run without Xen, and a record to give it.

What it is told is Python; `words` are its arguments, `store` runs a xenstore tool.
"""

from __future__ import annotations

import io
import sys
import textwrap
from pathlib import Path

from tests.property.strategies import CONTEXT, PARAMS, TSC, stream
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream import xl
from xenqemu.formats.stream.libxc_records import End, StaticDataEnd
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.xl import XlHeader

PROGRAM = """#!{python}
import json, os, signal, subprocess, sys, time
words = sys.argv[1:]
def store(tool, *arguments):
    done = subprocess.run(["xenstore-" + tool, *arguments], check=True, capture_output=True)
    return done.stdout.decode().strip()
def fail(text, status=1):
    print(text, file=sys.stderr)
    sys.exit(status)
{body}
"""


def write_xl(path: Path, *parts: str) -> tuple[str]:
    body = "".join(map(textwrap.dedent, parts))
    path.write_text(PROGRAM.format(python=sys.executable, body=body))
    path.chmod(0o700)
    return (str(path),)


UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"
CONFIG = DomainConfig(
    {
        "c_info": {"type": "pvh", "name": "g1", "uuid": UUID},
        "b_info": {"max_vcpus": 1, "max_memkb": 16384},
    }
)
PAGES = PageData.of(range(770)), [bytes(range(256)) * 16 * 770]
IMAGE = stream((StaticDataEnd(), PAGES, TSC, CONTEXT, PARAMS, End()))

SETUP = f"""
    assert words[0] == "restore"
    def make(domid=5, name="g1"):
        store("write", f"/local/domain/{{domid}}/name", name,
              f"/local/domain/{{domid}}/vm", "/vm/{UUID}")
    if words[0] == "restore": data = open(words[-1], "rb", buffering=0)
    """
DESTROY = """
    if words[0] == "destroy":
        store("rm", "/local/domain/" + words[1]); sys.exit(0)
    """


def record(header=None):
    file = io.BytesIO()
    xl.write(Sink(file), header or XlHeader.of_json(CONFIG.dump().decode()))
    return file.getvalue() + IMAGE
