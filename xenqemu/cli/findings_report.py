"""What the checks before an operation found, as the user hears of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from xenqemu.cli import terminal
from xenqemu.errors import HostError, Warned
from xenqemu.host.findings import Finding, Severity


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add the option that has all be checked and nothing be done."""
    parser.add_argument(
        "-n",
        "--dry-run",
        dest="dry_run",
        action="store_true",
        help="Touch nothing: do all checks, and tell of all that they find, as check does.",
    )


def report(what: str, found: Iterable[Finding], *, as_json: bool) -> int:
    """Print all findings, the refusals first, and return the exit code that they mean."""
    order = [*Severity]
    every = sorted(found, key=lambda each: order.index(each.severity))
    refused = sum(each.severity is Severity.REFUSAL for each in every)
    if as_json:
        terminal.as_json({"findings": [_fields(each) for each in every]})
    else:
        for each in every:
            terminal.line(f"{each.severity.value}: {each}")
        counts = f"{_counted(refused, 'refusal')}, {_counted(len(every) - refused, 'warning')}"
        outcome = "fail" if refused else "work"
        terminal.tell(f"{what} would {outcome}{f': {counts}' if every else ''}")
    if refused:
        return HostError.exit_code
    return Warned.exit_code if every else 0


def _fields(finding: Finding) -> dict[str, str]:
    """Return a finding as it is in JSON, without what is empty."""
    fields = {
        "severity": finding.severity.name.lower(),
        "what": finding.what,
        "text": finding.text,
        "hint": finding.hint,
    }
    return {key: value for key, value in fields.items() if value}


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
