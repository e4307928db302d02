"""`xenqemu save [-c|-p] [-D] [--live [--max-downtime TIME] …] DOM FILE|--to CMD [CFG]`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xenqemu.cli.arguments import add_domain, add_json_and_run, add_step_timeout
from xenqemu.cli.findings_report import add_dry_run
from xenqemu.cli.findings_report import report as report_findings
from xenqemu.cli.input_file import STANDARD, add_command, file_or_stream, named_file, passes_once
from xenqemu.cli.option_arguments import add_options, options_of
from xenqemu.errors import UsageError
from xenqemu.operations.options import After, SaveOptions, key_file_for
from xenqemu.quantities import in_bytes, in_time

if TYPE_CHECKING:
    from xenqemu.host.domain import Domain
    from xenqemu.host.protocol import Host
    from xenqemu.operations.events import Observer
    from xenqemu.operations.stopwatch import Stopwatch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_dry_run(parser)
    add_options(parser, SaveOptions)
    add_step_timeout(parser)
    add_domain(parser)
    file = parser.add_argument(
        "file",
        metavar="FILE",
        type=file_or_stream,
        help='"-" is the standard output; it may be a FIFO',
    )
    text = (
        "Have CMD, a line for a shell, read the save file; the domain is destroyed once it has "
        "ended with status 0."
    )
    add_command(parser, "--to", text, file)
    parser.add_argument(
        "config",
        metavar="CFG",
        type=named_file,
        nargs="?",
        help="use this config instead of the domain's own",
    )
    add_json_and_run(parser, run)


def run(chosen: argparse.Namespace) -> int:
    """Save the domain, and print what its save file holds; or what would be in the way."""
    from xenqemu.choose_host import open_host
    from xenqemu.cli import progress, terminal
    from xenqemu.cli.chosen_settings import settings_of
    from xenqemu.cli.hooked import hooked, tell_passed_over
    from xenqemu.host import domain_state
    from xenqemu.operations.check_guest import savable
    from xenqemu.operations.stopwatch import Stopwatch
    from xenqemu.settings.guest_config import read_config

    file, cfg = _file_and_config(chosen)
    if file == STANDARD and not chosen.command:
        terminal.answer_aside()
    options = options_of(chosen, SaveOptions)
    if options.compact and not options.precopy:
        raise UsageError("--compact goes with --live")
    if not (options.moment or options.precopy):
        raise UsageError("--precopy goes with --live")
    settings = settings_of(chosen)
    verify = settings.save.verify and options.verify
    tell_passed_over(settings.hooks, "save")
    save = _saver(file, chosen.command)
    watch = Stopwatch(progress.observer(chosen))
    with open_host(chosen.host, step_timeout=chosen.step_timeout, settings=settings) as host:
        domain = domain_state.find(host, chosen.domain)
        config = read_config(cfg, host, terminal.complain)
        if chosen.dry_run:
            folder = None if passes_once(file, chosen.command) else file.absolute().parent
            found = savable(host, domain, folder, config)
            return report_findings(f"a save of {domain.name}", found, as_json=chosen.json)
        layout = options.layout if "layout" in chosen else settings.save.layout
        key_file = key_file_for(options, settings.save)
        options = replace(options, config=config, verify=verify, layout=layout, key_file=key_file)
        to = chosen.command or str(file.absolute() if file != STANDARD else file)
        about = {"domid": domain.domid, "name": domain.name, "file": to}
        with hooked(settings.hooks, "save", **about):  # they have another folder
            size, summary = save(host, domain, options, observe=watch)
    shown = chosen.command or str(file)
    lives_on = options.after is After.CONTINUE
    _tell_saved(chosen, shown, domain, watch, size=size, summary=summary, lives_on=lives_on)
    return 0


def _tell_saved(
    chosen: argparse.Namespace,
    shown: str,
    domain: Domain,
    watch: Stopwatch,
    *,
    size: int,
    summary: str,
    lives_on: bool,
) -> None:
    """Print what was saved to `shown`, of `size` bytes; the downtime of a guest that lives on."""
    from xenqemu.cli import progress, terminal

    if chosen.json:
        fields = {"saved": shown, "domid": domain.domid, **progress.took_fields(watch, size)}
        if lives_on:
            fields["downtime"] = round(watch.downtime, 3)
        if watch.way:
            fields["way"] = watch.way.value
        terminal.as_json(fields, indent=None)
        return
    how = f" ({watch.way.value})" if watch.way else ""
    rest = f"; downtime {in_time(watch.downtime)}{how}" if lives_on else ""
    took = progress.took(watch, size)
    terminal.tell(f"saved {chosen.domain} to {shown}: {summary}; {took}{rest}")


def _file_and_config(chosen: argparse.Namespace) -> tuple[Path, Path | None]:
    """Return FILE and CFG; with --to there is no FILE, and what stands in its place is CFG."""
    if not chosen.command:
        return chosen.file, chosen.config
    if chosen.config:
        raise UsageError("--to CMD takes the place of FILE")
    return STANDARD, chosen.file


def _saver(file: Path, command: str | None) -> Callable[..., tuple[int, str]]:
    """Load what saves a domain there; it returns the size of the save file, and what to say.

    It is called with the host, the domain, the options, and the observer as `observe`.
    """
    from xenqemu.cli import report, terminal

    if passes_once(file, command):
        from xenqemu.operations.save_through import save_through
        from xenqemu.operations.targets import way_to

        way = way_to(file, command, terminal.aside)

        def pass_on(host: Host, domain: Domain, *options: SaveOptions, observe: Observer) -> Any:
            size = save_through(host, domain, way, *options, observe=observe)
            return size, in_bytes(size)

        return pass_on
    from xenqemu.operations.save import save

    def write(host: Host, domain: Domain, *options: SaveOptions, observe: Observer) -> Any:
        found = save(host, domain, file, *options, observe=observe)
        return found.size, f"{report.summary(found)}{report.ratio(file, found)}"

    return write
