#!/usr/bin/env python3
"""Make the manual pages: make_manual.py FOLDER, as man/man1/xenqemu.1 where FOLDER is man.

Prose is in docs/man, in man(7): `commands/save.1` for xenqemu-save(1), and the other pages under
their own names.  What is said elsewhere already is put in at build time, where a line @NAME@
stands: arguments and options by argparse-manpage out of the parsers, settings out of
etc/xenqemu.conf, hooks out of etc/hooks.d/README, the tree of errors out of xenqemu/errors.py.

man(7) by hand needs no other program to be made of, and argparse-manpage writes it too.  The same
tree gives the same bytes; the date in them is $SOURCE_DATE_EPOCH, and there is none without it.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

try:
    from argparse_manpage.manpage import Manpage
except ModuleNotFoundError:  # Debian 12 has 1.2.2, in which the module has another name
    from build_manpages.manpage import Manpage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xenqemu import errors
from xenqemu.cli.parser import COMMANDS, parser
from xenqemu.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
MAN = ROOT / "docs" / "man"

SETTING = re.compile(r"((?:^# .*\n)+)?((?:^#\w+ = .*\n)+|^\[\w+\]\n)?", re.MULTILINE)
"""Comments, and below them the settings or the section that they are about."""

SHARED = "All commands have the options of\n.BR xenqemu (1),\n.B \\-\\-json\namong them.\n"

WORD = re.compile(r"(?P<option>(?<![\w-])--?[A-Za-z][\w-]*)|(?P<value>\b[A-Z]+\b)")
"""An option in a usage, and what stands for a value."""


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name of each page, as xenqemu-save.1, and its text."""
    top = parser()
    for source in sorted(MAN.glob("*.[1-8]")):
        parts = {
            "OPTIONS": lambda: options(arguments(top)),
            "COMMANDS": commands,
            "SETTINGS": lambda: settings((ROOT / "etc" / "xenqemu.conf").read_text()),
            "ERRORS": lambda: plain_text(str(errors.__doc__).split("\n\n")[2]),
            "HOOKS": lambda: plain_text((ROOT / "etc" / "hooks.d" / "README").read_text()),
        }
        text = source.read_text()
        for name, part in parts.items():
            if f"@{name}@" in text:
                text = text.replace(f"@{name}@\n", part())
        yield source.name, head(source.name) + text
    for name, made in acts_of(top).items():
        file = f"xenqemu-{name}.1"
        yield file, head(file) + command_page(name, made)


def acts_of(made: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands below a parser, by their names."""
    for action in made._actions:  # noqa: SLF001  argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


def command_page(name: str, made: argparse.ArgumentParser) -> str:
    """Return the page of a command: its prose, between what its parser says.

    Raises `FileNotFoundError` for a command without prose.
    """
    prose = (MAN / "commands" / f"{name}.1").read_text()
    acts = acts_of(made)
    usages = "\n.br\n".join(usage(each) for each in acts.values() or [made])
    parts = [
        (f".SS {escaped(each.prog)}\n" if acts else "") + options(own)
        for each in acts.values() or [made]
        if (own := own_arguments(each))
    ]
    told = ".PP\n".join(["".join(parts), SHARED] if parts else [SHARED])
    return (
        f".SH NAME\nxenqemu\\-{escaped(name)} \\- {escaped(COMMANDS[name][1])}\n"
        f".SH SYNOPSIS\n.ad l\n{usages}\n.ad b\n" + prose.replace("@OPTIONS@\n", told)
    )


def arguments(made: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments and options of a command that its help shows, but --help."""
    return [
        action
        for action in made._actions  # noqa: SLF001
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)  # noqa: SLF001
        and action.help != argparse.SUPPRESS
    ]


def own_arguments(made: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a command but for those that all commands have."""
    shared = [action.option_strings for action in arguments(parser())]
    return [action for action in arguments(made) if action.option_strings not in shared]


def options(actions: list[argparse.Action]) -> str:
    """Return an entry for each argument and option, as argparse-manpage makes them.

    It takes a whole parser, and wraps as argparse does: it is given one of its own, whose lines are
    long.
    """
    alone = argparse.ArgumentParser(add_help=False, formatter_class=_Unwrapped)
    for action in actions:
        alone._add_action(action)  # noqa: SLF001
    made_page = str(Manpage(alone)).replace(".SH OPTIONS\n", "")
    return re.sub(r"\n{2,}", "\n", made_page[made_page.index(".TP") :])


class _Unwrapped(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100_000)


def usage(made: argparse.ArgumentParser) -> str:
    """Return the usage of a command, options in bold, what stands for values in italics.

    Options of all commands are left out.
    """
    words = " ".join(made.format_usage().split()).removeprefix(f"usage: {made.prog}")
    for action in arguments(parser()):
        value = "" if action.nargs == 0 else f" {action.metavar}"
        words = words.replace(f" [{action.option_strings[0]}{value}]", "")
    kept = re.sub(r"\[[^][]*\]", lambda found: found[0].replace(" ", "\0"), words)
    shown = WORD.sub(_shown, kept.replace(" [-h]", ""))
    return rf"\fB{escaped(made.prog)}\fR" + shown.replace("\0", r"\ ")


def _shown(word: re.Match[str]) -> str:
    font = "B" if word["option"] else "I"
    return rf"\f{font}{escaped(word[0])}\fR"


def commands() -> str:
    """Return an entry for each command."""
    return "".join(
        f".TP\n.BR xenqemu\\-{escaped(name)} (1)\n{escaped(about[1])}\n"
        for name, about in COMMANDS.items()
    )


def settings(conf: str) -> str:
    """Return an entry for each setting of a file in which every one stands commented out."""
    made = []
    for comments, names in SETTING.findall(conf):
        said = escaped(" ".join(line.removeprefix("# ") for line in comments.splitlines()))
        if names.startswith("["):
            made += [f".SS {names.strip()}", *filter(None, [said])]
        elif names:
            keys = [escaped(key.removeprefix("#")) for key in names.splitlines()]
            made += [".TP", rf"\fB{keys[0]}\fR"]
            made += [line for key in keys[1:] for line in (".TQ", rf"\fB{key}\fR")]
            made.append(said)
        elif comments:
            made += [".PP", said]
    return "\n".join(made) + "\n"


def plain_text(text: str) -> str:
    """Return paragraphs of plain text; those that are indented stay as they are."""
    made = []
    for paragraph in text.strip("\n").split("\n\n"):
        if paragraph.startswith(" "):
            rows = [escaped(line.removeprefix("    ")) for line in paragraph.splitlines()]
            made += [".PP", ".EX", *rows, ".EE"]
        else:
            made += [".PP", escaped(" ".join(paragraph.split("\n")))]
    return "\n".join(made) + "\n"


def escaped(text: str) -> str:
    """Return `text` as roff that prints it: signs that programs read, and no request."""
    made = text.replace("\\", "\\e").replace("-", "\\-").replace("~", r"\(ti")
    return "\\&" + made if made.startswith((".", "'")) else made


def head(file: str) -> str:
    """Return the first lines of a page."""
    name, section = file.rsplit(".", 1)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    day = f"{datetime.fromtimestamp(int(epoch), UTC):%Y-%m-%d}" if epoch else ""
    return (
        f'.\\" made by scripts/manual: edit docs/man\n'
        f'.TH {escaped(name.upper())} {section} "{day}" "xenqemu {VERSION}" "xenqemu manual"\n'
        ".nh\n"
    )


if __name__ == "__main__":
    choice = argparse.ArgumentParser()
    choice.add_argument("folder", metavar="FOLDER", type=Path)
    into = choice.parse_args().folder
    for page, content in pages():
        place = into / f"man{page[-1]}" / page
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
