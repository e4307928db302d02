"""The commands on domains and on files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from xenqemu.cli import report, show
from xenqemu.cli.hooked import hooked
from xenqemu.cli.policy import live_policy
from xenqemu.formats.domain_config import DomainConfig
from xenqemu.formats.source import Source
from xenqemu.host import domain
from xenqemu.host.domain import Host
from xenqemu.host.settings import read_settings
from xenqemu.operations.devices import save_devices as save_device_state
from xenqemu.operations.outline import outline
from xenqemu.operations.recover import unfinished
from xenqemu.operations.restore import restore as restore_domain
from xenqemu.operations.suspend import After, suspend
from xenqemu.operations.verify import verify as verify_file
from xenqemu.toolstack import open_host

Command = Callable[[argparse.Namespace], None]


def save(chosen: argparse.Namespace) -> None:
    """`xenqemu save [-c|-p] [-D] [--live [--max-freeze TIME] …] DOM FILE [CFG]`."""
    precopy = live_policy(chosen)
    settings = read_settings(chosen.conf)
    host = host_of(chosen, chosen.step_timeout)
    domid = domain.find(host, chosen.domain)
    config = config_of(chosen.config)
    about = {"domid": domid, "name": domain.name_of(host, domid), "file": str(chosen.file)}
    watch = show.Stopwatch(show.observer(as_lines_of_json=chosen.json))
    with hooked(settings.hooks, "save", **about):
        found = suspend(
            host,
            domid,
            chosen.file,
            after=_after(chosen),
            config=config,
            keep_domid=chosen.keep_domid,
            precopy=precopy,
            compacted=chosen.compact,
            check=settings.save.verify and chosen.check,
            timeout=chosen.timeout or settings.deadlines.operation,
            observe=watch,
        )
    still = round(watch.seconds, 3) if chosen.checkpoint else None
    if chosen.json:
        fields = {"saved": str(chosen.file), "domid": domid, "size": found.size}
        show.line(json.dumps(fields | ({} if still is None else {"stood_still": still})))
    else:
        rest = "" if still is None else f"; it stood still for {still:.3g} s"
        show.line(f"saved {chosen.domain} to {chosen.file}: {report.summary(found)}{rest}")


def restore(chosen: argparse.Namespace) -> None:
    """`xenqemu restore [-p] [-e] [CFG] FILE`."""
    file = chosen.files[-1]
    config = config_of(chosen.files[0]) if len(chosen.files) > 1 else None
    settings = read_settings(chosen.conf)
    with hooked(settings.hooks, "restore", file=str(file)):
        done = restore_domain(
            host_of(chosen),
            file,
            paused=chosen.paused,
            config=config,
            monitor=chosen.monitor,
            timeout=chosen.timeout or settings.deadlines.operation,
            observe=show.observer(as_lines_of_json=chosen.json),
        )
    used = config or done.record.config
    name = used.name if used else ""
    if chosen.json:
        show.line(json.dumps({"restored": str(file), "domid": done.domid, "name": name}))
    else:
        state = "paused" if chosen.paused else "running"
        show.line(f"restored {name} from {file}: domain {done.domid}, {state}")


def verify(chosen: argparse.Namespace) -> None:
    """`xenqemu verify FILE`."""
    with _opened(chosen.file) as file:
        found = verify_file(file)
    if chosen.json:
        show.as_json({"sound": True, **report.fields(found)})
    else:
        show.line(f"{chosen.file}: sound; {report.summary(found)}")


def inspect(chosen: argparse.Namespace) -> None:
    """`xenqemu inspect FILE`."""
    with _opened(chosen.file) as file:
        found = outline(Source(file))
    if chosen.json:
        show.as_json(report.fields(found))
    else:
        report.tree(found)


def save_devices(chosen: argparse.Namespace) -> None:
    """`xenqemu devices save DOM FILE`."""
    host = host_of(chosen)
    domid = domain.find(host, chosen.domain)
    found = save_device_state(host, domid, chosen.file)
    if chosen.json:
        show.line(json.dumps({"saved": str(chosen.file), "domid": domid, "size": found.size}))
    else:
        show.line(f"saved the devices of {chosen.domain} to {chosen.file}: {report.summary(found)}")


def status(chosen: argparse.Namespace) -> None:
    """`xenqemu status DOM`."""
    host = host_of(chosen)
    now = domain.state(host, domain.find(host, chosen.domain))
    operations = unfinished(host, str(now.domid), now.name)
    if chosen.json:
        fields = [{**asdict(each.about), "goes_on": each.busy} for each in operations]
        show.as_json({**state_fields(now), "operations": fields})
        return
    show.line(f"domain {now.domid} ({now.name}): {now}")
    for each in operations:
        how = "goes on" if each.busy else f"was left unfinished: xenqemu recover {now.name}"
        show.line(f"the {each.about} {how} ({each.about.who})")


def state_fields(now: domain.DomainState) -> dict[str, object]:
    """Return what all parties say of a domain, for a program."""
    info = now.info
    return {
        "domid": now.domid,
        "name": now.name,
        "uuid": info.uuid if info else None,
        "state": info.run_state.value if info else None,
        "device_model": now.device_model or None,
        "memory": info.memory if info else None,
        "vcpus": info.vcpus if info else None,
        "running": now.running,
        "trouble": list(now.trouble),
    }


def host_of(chosen: argparse.Namespace, step: float | None = None) -> Host:
    """Return the chosen host; a guest has `step` seconds for each step, if that is given."""
    settings = read_settings(chosen.conf)
    deadlines = settings.deadlines
    if step is not None:
        deadlines = replace(deadlines, acknowledge=step, suspend=step)
    return open_host(chosen.host, deadlines=deadlines, settings=settings)


def _after(chosen: argparse.Namespace) -> After:
    if chosen.checkpoint:
        return After.CONTINUE
    return After.PAUSE if chosen.paused else After.DESTROY


def config_of(path: Path | None) -> DomainConfig | None:
    """Return what an xl.cfg says, None for no file."""
    if path is None:
        return None
    from xenqemu.formats.xlcfg import MAX_TEXT, GuestConfig  # noqa: PLC0415  seldom needed

    with path.open("rb") as file:
        return DomainConfig.from_guest(GuestConfig.from_cfg(file.read(MAX_TEXT + 1)))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with open(0, "rb", closefd=False) if str(path) == "-" else path.open("rb") as file:
        yield file
