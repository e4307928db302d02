"""`xenqemu restore [-p] [-e] [--clone [--name CLONE] [--count N] …] [CFG] FILE|--from CMD`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xenqemu.cli.arguments import OneOrTwo, add_json_and_run
from xenqemu.cli.findings_report import add_dry_run, report
from xenqemu.cli.input_file import STANDARD, add_command, file_or_stream, passes_once
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import FormatError, UsageError
from xenqemu.operations.options import RestoreOptions, key_file_for
from xenqemu.quantities import in_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from xenqemu.host.findings import Finding
    from xenqemu.host.protocol import Host
    from xenqemu.operations.clone import Clone
    from xenqemu.operations.events import Observer
    from xenqemu.operations.restore import Restored


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_dry_run(parser)
    add_options(parser, RestoreOptions)
    files = parser.add_argument(
        "files",
        metavar="[CFG] FILE",
        type=file_or_stream,
        nargs="+",
        action=OneOrTwo,
        help='"-" is the standard input; it may be a FIFO',
    )
    text = (
        "Read the save file from CMD, a line for a shell; the domain runs once that has ended "
        "with status 0."
    )
    add_command(parser, "--from", text, files)
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> int:
    """Restore the domain, and print its id; or make clones, and print what became of each.

    Or print what would be in the way of a restore.
    """
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.cli.report import name_file
    from xenqemu.operations.stopwatch import Stopwatch
    from xenqemu.settings.guest_config import read_config

    *configs, file = _files(chosen)
    settings = settings_of(chosen)
    tell_passed_over(settings.hooks, "restore")
    observe = Stopwatch(progress.observer(chosen))
    shown = chosen.command or str(file)
    with open_host(chosen.host, settings=settings) as host:
        config = read_config(configs[0] if configs else None, host, terminal.complain)
        options = options_of(chosen, RestoreOptions)
        key_file = key_file_for(options, settings.save)
        options = replace(options, config=config, key_file=key_file)
        if chosen.dry_run:
            found = _findings(host, file, chosen.command, options)
            return report(f"a restore of {shown}", found, as_json=chosen.json)
        where = chosen.command or str(file.absolute() if file != STANDARD else file)
        with hooked(settings.hooks, "restore", file=where):
            if options.clone:
                _clone(host, file, chosen.command, options, observe, as_json=chosen.json)
                return 0
            try:
                done = _restored(host, file, chosen.command, options, observe)
            except FormatError as error:
                name_file(error, shown)
                raise
    used = config or done.contents.config
    name = used.name if used else ""
    size = done.contents.size
    if chosen.json:
        fields = {
            "restored": shown,
            "domid": done.domid,
            "name": name,
            **progress.took_fields(observe, size),
        }
        terminal.as_json(fields, indent=None)
    else:
        state = "paused" if done.paused else "running"
        took = f"{in_bytes(size)}; {progress.took(observe, size)}"
        terminal.tell(f"restored {name} from {shown}: domain {done.domid}, {state}; {took}")
    return 0


def _files(chosen: argparse.Namespace) -> list[Path]:
    """Return CFG, if there is one, and FILE; with --from there is no FILE."""
    files: list[Path] = chosen.files or []
    if chosen.command:
        if len(files) > 1:
            raise UsageError("--from CMD takes the place of FILE")
        files = [*files, STANDARD]
    if STANDARD in files[:-1]:
        raise UsageError('"-" cannot be CFG')
    return files


def _findings(
    host: Host, file: Path, command: str | None, options: RestoreOptions
) -> Iterator[Finding]:
    """Return what is in the way of a restore; raise `UsageError` for what can be read but once."""
    if options.clone or passes_once(file, command):
        raise UsageError("--dry-run is of a restore from a file")
    from xenqemu.operations.check_restore import restorable
    from xenqemu.operations.options import key_for

    strict = options.strict_disks
    return restorable(host, file, key_for(host, options), options.config, strict_disks=strict)


def _restored(
    host: Host, file: Path, command: str | None, options: RestoreOptions, observe: Observer
) -> Restored:
    if passes_once(file, command):
        from xenqemu.cli import terminal
        from xenqemu.operations.restore_through import restore_through
        from xenqemu.operations.sources import way_from

        way = way_from(file, command, terminal.aside)
        return restore_through(host, way, options, observe=observe)
    from xenqemu.operations.restore import restore

    return restore(host, file, options, observe=observe)


def _clone(
    host: Host,
    file: Path,
    command: str | None,
    options: RestoreOptions,
    observe: Observer,
    *,
    as_json: bool,
) -> None:
    """Make clones and print what became of each; raise the first error, if there is one."""
    if passes_once(file, command):
        raise UsageError("clones are made of a file, which is read for each of them")
    from xenqemu.operations.clone import clone

    tell = _tell_json if as_json else _tell
    _require_all(clone(host, file, options, observe=observe, tell=tell))


def _tell(made: Clone) -> None:
    """Print what became of a clone."""
    from xenqemu.cli import terminal

    if made.error is None:
        terminal.tell(f"cloned {made.name}: domain {made.domid}")
    else:
        terminal.complain(f"{made.name}: {made.error}")


def _tell_json(made: Clone) -> None:
    """Print what became of a clone as a line of JSON."""
    from xenqemu.cli import terminal

    fields: dict[str, object] = {"clone": made.name, "uuid": made.uuid, "domid": made.domid}
    if made.error is not None:
        fields["error"] = str(made.error)
    terminal.as_json(fields, indent=None)


def _require_all(made: Sequence[Clone]) -> None:
    """Raise the first error of a clone, if there is one, with how many there are not."""
    errors = [each.error for each in made if each.error is not None]
    if errors:
        errors[0].add_note(f"{len(errors)} of {len(made)} clones were not made")
        raise errors[0]
