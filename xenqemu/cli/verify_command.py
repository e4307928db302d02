"""`xenqemu verify FILE…`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.cli import terminal
from xenqemu.cli.arguments import add_json_and_run
from xenqemu.cli.input_file import add_input_files, add_key_file, key_from, opened
from xenqemu.errors import FormatError

if TYPE_CHECKING:
    from xenqemu.host.trust import Trust
    from xenqemu.operations.events import Observer
    from xenqemu.operations.inspect import Contents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_input_files(parser)
    add_key_file(parser)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> int:
    """Print of each file whether it is complete, sound and sealed, or what is wrong with it, where.

    Returns the exit code of the first that is not sound.
    """
    from xenqemu.cli import progress, report
    from xenqemu.cli.each_file import for_each_file
    from xenqemu.operations.events import unobserved

    trust = _trust(chosen) if chosen.key_file or chosen.json else None
    key = key_from(chosen.key_file, trust) if trust else None
    observe = unobserved if chosen.json else progress.observer(chosen)

    def about(error: Exception) -> dict[str, object]:
        return {"sound": False, "sealed": None, **report.bad_fields(error)}

    def act(path: Path) -> None:
        found = _verified(path, key, observe)
        sealed = found.seal is not None
        if chosen.json:
            fields = {"file": str(path), "sound": True, "sealed": sealed}
            terminal.as_json({**fields, **report.fields(found, trust)})
        else:
            verdict = "sound and sealed" if sealed else "well-formed, unsealed"
            terminal.tell(f"{path}: {verdict}; {report.summary(found)}")

    return for_each_file(chosen.files, act, as_json=chosen.json, about=about)


def _trust(chosen: argparse.Namespace) -> Trust:
    from xenqemu.settings.xenqemu_conf import read_settings  # a file alone is verified without

    return read_settings(chosen.conf).trust


def _verified(path: Path, key: bytes | None, observe: Observer) -> Contents:
    """Return what a file holds that is sound; raise `FormatError` with its name otherwise."""
    from xenqemu.cli.report import name_file
    from xenqemu.operations.verify import verify

    try:
        with opened(path) as file:
            return verify(file, key, observe)
    except FormatError as error:
        name_file(error, path)
        raise
