"""An xl that does what a test tells it, for what cannot run without Xen.

What it is told is Python; `words` are its arguments, `store` runs a xenstore tool.
"""

import sys
import textwrap
from pathlib import Path

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
