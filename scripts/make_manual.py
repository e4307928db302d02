#!/usr/bin/env python3
"""Print the manual page of xenqemu, made of what its commands answer to --help.

The exit codes are those of README.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from make_completion import verb_of

from xenqemu.cli.parser import parser
from xenqemu.version import VERSION

README = Path(__file__).resolve().parents[1] / "README.md"
EXIT_CODE = re.compile(r"^\| (\d+) \| (.+) \|$", re.MULTILINE)
WIDTH = "76"
"""Columns of the texts; man indents them."""

HEAD = r"""
.TH XENQEMU 1 "" "xenqemu @VERSION@"
.SH NAME
xenqemu \- suspend, restore and migration engine for Xen domains
.SH DESCRIPTION
Saves a Xen domain with its memory and the state of its device model, QEMU, in one file that
.BR xl (1)
restores, and migrates domains between hosts in xl's own protocol.
What each command does at length is in the README in /usr/share/doc/xenqemu.
.SH COMMANDS
"""

TAIL = r"""
.SH FILES
.TP
.I /etc/xenqemu/xenqemu.conf
The settings; what each is, and what holds without it, is written there.
.TP
.I /etc/xenqemu/hooks.d
Programs that are run before and after what is done to domains; see README there.
.SH SEE ALSO
.BR xl (1),
.BR xl.cfg (5)
"""


def answer(words: tuple[str, ...]) -> str:
    """Return what a command answers to --help."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        parser().parse_args([*words, "--help"])
    return said.getvalue()


def shown(text: str) -> str:
    """Return a text that troff leaves as it is."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def page() -> Iterator[str]:
    """Yield the parts of the page."""
    yield HEAD.lstrip().replace("@VERSION@", VERSION)
    for verb in verb_of(parser(), ("xenqemu",)).all:
        yield f".SS {shown(' '.join(verb.words))}\n.EX\n{shown(answer(verb.words[1:]))}.EE\n"
    yield ".SH EXIT STATUS\n"
    for code, meaning in EXIT_CODE.findall(README.read_text()):
        yield f".TP\n.B {code}\n{shown(meaning).replace('`', '')}\n"
    yield TAIL.lstrip()


if __name__ == "__main__":
    os.environ["COLUMNS"] = WIDTH
    sys.stdout.write("".join(page()))
