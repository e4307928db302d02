"""`xenqemu verify FILE`."""

from __future__ import annotations

import argparse

from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_input_file, add_key_file, key_from, opened
from xenqemu.errors import FormatError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_input_file(parser)
    add_key_file(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> None:
    """Print whether the file is complete, sound and sealed, or what is wrong with it, and where."""
    from xenqemu.cli import report, terminal
    from xenqemu.operations.verify import verify

    key = None
    if chosen.key_file:
        from xenqemu.settings.xenqemu_conf import read_settings

        key = key_from(chosen.key_file, read_settings(chosen.conf).trust)
    try:
        with opened(chosen.file) as file:
            found = verify(file, key)
    except FormatError as error:
        fields = report.name_file(error, chosen.file)
        if chosen.json:
            terminal.as_json({"sound": False, "sealed": None, **fields})
        raise
    sealed = found.seal is not None
    if chosen.json:
        from xenqemu.settings.xenqemu_conf import read_settings

        trust = read_settings(chosen.conf).trust
        terminal.as_json({"sound": True, "sealed": sealed, **report.fields(found, trust)})
    else:
        verdict = "sound and sealed" if sealed else "well-formed, unsealed"
        terminal.line(f"{chosen.file}: {verdict}; {report.summary(found)}")
