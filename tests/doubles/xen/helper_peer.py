"""A save helper that does what a test tells it: written out as an executable file.

What it is told is Python, run with `say`, `answer`, `image` and `arguments` at hand.
"""

import sys
import textwrap
from pathlib import Path

PROGRAM = """#!{python}
import os, signal, struct, sys, time
arguments = sys.argv[1:]
io_fd = int(arguments[1])
def say(number, body=b""):
    os.write(1, struct.pack("<HH", 2 + len(body), number) + body)
def string(text):
    return struct.pack("<I", len(text) + 1) + text.encode() + bytes(1)
def log(level, errno, text):
    say(1, struct.pack("<II", level, errno) + string("xc") + string(text))
def frames(done, total, what="Frames"):
    say(2, string("xc") + string(what) + struct.pack("<QQ", done, total))
def answer():
    data = os.read(0, 4)
    return struct.unpack("<i", data)[0] if data else None
def complete(result=0, errno=0):
    say(10, struct.pack("<ii", result, errno))
    return answer()
def image(data):
    while data:
        data = data[os.write(io_fd, data):]
{body}
"""


def write_peer(path: Path, body: str) -> Path:
    path.write_text(PROGRAM.format(python=sys.executable, body=textwrap.dedent(body)))
    path.chmod(0o700)
    return path
