"""Options as arguments: each class of options and its command agree, to the last word."""

import argparse
from collections.abc import Mapping
from dataclasses import fields, replace

import pytest

import xenqemu
from xenqemu import api
from xenqemu.cli.option_arguments import options_of
from xenqemu.cli.parser import COMMANDS as NAMED
from xenqemu.cli.parser import parser
from xenqemu.errors import UsageError
from xenqemu.formats.stream.layout import Layout
from xenqemu.host.precopy_options import PrecopyOptions
from xenqemu.operations.options import (
    After,
    MigrateOptions,
    ReceiveOptions,
    RestoreOptions,
    SaveOptions,
)
from xenqemu.option import option_of

COMMANDS = {
    "save": (SaveOptions, {"domain", "file", "command", "step_timeout", "dry_run"}),
    "restore": (RestoreOptions, {"files", "command", "dry_run"}),
    "migrate": (MigrateOptions, {"domain", "destination", "step_timeout", "dry_run"}),
    "migrate-receive": (
        ReceiveOptions,
        {"d", "F", "preflight", "features", "streams", "stream", "token"},
    ),
}
"""Of each command its options, and what it takes beside: the arguments of the function, what is the
host's (`open_host`), and what two commands say to each other.
"""

ALL = {"help", "json", "host", "conf", "metrics", "verbose", "quiet", "timestamps"}
"""What all commands take."""

OTHERS = {
    "check": {"subject", "to", "on", "command", "key_file"},
    "verify": {"files": "file", "key_file": "key_file"},
    "seal": {"file", "key_file"},
    "inspect": {"files": "file"},
    "compress": {"file": "file", "out": "to", "level": "level", "force": "force"},
    "decompress": {"file": "file", "out": "to", "force": "force"},
    "status": {"domain": "domain"},
    "job": {"domain": "domain", "watch": ""},
    "recover": {"domain": "domain", "moved": "moved", "forget": "forget", "all": ""},
    "cancel": {"domain": "domain", "timeout": "timeout"},
    "save-all": {},
    "saved": {"name": "name", "folder": "folder"},
    "restore-all": {"strict_disks": "strict_disks"},
    "config show": {"file": "file", "release": "release"},
    "devices save": {"domain": "domain", "file": "file"},
}
"""Of each other command what it takes, and how the function of the same name calls it."""


FUNCTIONS = {"devices save": "save_devices", "config show": "read_config"}
"""What is called otherwise than its command."""


def subcommands(made: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parsers below one, by their words."""
    return made._subparsers._group_actions[0].choices  # noqa: SLF001  argparse tells it in no other way


def verb(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command."""
    made = parser()
    for word in name.split():
        made = subcommands(made)[word]
    return made


def actions(name: str) -> dict[str, list[argparse.Action]]:
    """Return what a command takes, by the names in what it parses to."""
    found = {}
    for action in verb(name)._actions:  # noqa: SLF001  argparse tells it in no other way
        found.setdefault(action.dest, []).append(action)
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_agree(name):
    kind, beside = COMMANDS[name]
    there = actions(name)
    wanted = {}
    for each in fields(kind):
        spelled = option_of(each)
        wanted[each.name] = spelled
        if spelled.nested:
            wanted |= {inner.name: option_of(inner) for inner in fields(spelled.nested)}
    if name == "restore":
        wanted.pop("config")  # a place before another, which argparse has no name for
        assert there["files"][0].metavar == "[CFG] FILE"
    assert there.keys() - wanted.keys() == beside | ALL
    assert wanted.keys() - there.keys() == set()
    for field, spelled in wanted.items():
        flags = {flag for action in there[field] for flag in action.option_strings}
        said = " ".join(action.help for action in there[field])
        if spelled.choices:
            assert flags == spelled.choices.keys()
            assert all(text in said for _, text in spelled.choices.values())
        elif spelled.flag:
            assert spelled.flag in flags
            assert spelled.text in said
            levels = [f"{spelled.flag}={n}" for n in range(1, 20)]
            if spelled.metavar == "LEVEL":  # which argparse has no name for
                assert flags == {spelled.flag, *levels}
            else:
                assert (there[field][0].metavar or "") == spelled.metavar


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_not_given_is_the_same_for_both(name):
    words = {"save": ["a", "b"], "restore": ["b"], "migrate": ["a", "b"], "migrate-receive": []}
    kind, _ = COMMANDS[name]
    assert options_of(parser().parse_args([name, *words[name]]), kind) == kind()


@pytest.mark.parametrize("name", OTHERS)
def test_other_commands_and_their_functions_agree(name):
    function = FUNCTIONS.get(name, name.replace("-", "_"))
    takes = dict(OTHERS[name]) if isinstance(OTHERS[name], dict) else {n: n for n in OTHERS[name]}
    assert actions(name).keys() - ALL == takes.keys()
    code = getattr(api, function).__code__
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    assert set(filter(None, takes.values())) <= set(arguments)


def test_every_command_has_a_function():
    verbs = NAMED
    assert verbs.keys() == {*COMMANDS, *(name.split()[0] for name in OTHERS), "lab", "help"}
    names = {"migrate-receive": "receive", "devices": "save_devices", "config": "read_config"}
    for name in verbs.keys() - {"lab", "help"}:  # the lab's own are methods of its host
        assert callable(getattr(xenqemu, names.get(name, name.replace("-", "_"))))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", SaveOptions()),
        ("-c", SaveOptions(after=After.CONTINUE)),
        ("-p", SaveOptions(after=After.PAUSE)),
        ("-D --no-verify", SaveOptions(keep_domid=True, verify=False)),
        ("--timeout 2.5", SaveOptions(timeout=2.5)),
        ("--timeout 1h30m", SaveOptions(timeout=5400.0)),
        ("--layout xl", SaveOptions(layout=Layout.XL)),
        ("--layout aligned", SaveOptions()),
        ("--compress", SaveOptions(compress=0)),
        ("--compress=7", SaveOptions(compress=7)),
        ("--live --compact", SaveOptions(precopy=PrecopyOptions(), compact=True)),
    ],
)
def test_options_of_a_save(words, options):
    chosen = parser().parse_args(["save", *words.split(), "guest", "file", "cfg"])
    assert options_of(chosen, SaveOptions) == options


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("-e -p -D", MigrateOptions(monitor=False, paused=True, keep_domid=True)),
        ("-s rsh --compress", MigrateOptions(command="rsh", compress=True)),
        ("--streams 16", MigrateOptions(streams=16)),
        ("--no-live", MigrateOptions(precopy=None)),
        ("--live --give-up", MigrateOptions(precopy=PrecopyOptions(give_up=True))),
        ("--iterations 2", MigrateOptions(precopy=PrecopyOptions(iterations=2))),
    ],
)
def test_options_of_a_migration(words, options):
    chosen = parser().parse_args(["migrate", *words.split(), "guest", "there"])
    assert options_of(chosen, MigrateOptions) == options


def test_a_layout_that_there_is_not():
    with pytest.raises(UsageError, match="'flat' is no layout: aligned or xl"):
        parser().parse_args(["save", "--layout", "flat", "guest", "file"])


def test_precopy_options_without_precopy():
    chosen = parser().parse_args(["migrate", "--no-live", "--threshold", "3", "guest", "there"])
    with pytest.raises(UsageError, match="--threshold goes with --live"):
        options_of(chosen, MigrateOptions)


def test_a_docstring_tells_each_field():
    for kind in (SaveOptions, RestoreOptions, MigrateOptions, ReceiveOptions, PrecopyOptions):
        for each in fields(kind):
            assert f"    {each.name}" in kind.__doc__
            assert option_of(each).text in kind.__doc__


def test_options_are_values():
    assert replace(SaveOptions(), timeout=2.0) == SaveOptions(timeout=2.0)
    assert {SaveOptions(), SaveOptions(config=None)} == {SaveOptions()}


def chosen(*words):
    return options_of(parser().parse_args(["save", *words, "guest", "file"]), SaveOptions).precopy


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        ("", None),
        ("--live", PrecopyOptions()),
        ("--live --max-downtime 300ms", PrecopyOptions(max_downtime=0.3)),
        ("--live --max-downtime 2s", PrecopyOptions(max_downtime=2.0)),
        ("--live --max-downtime 1.5", PrecopyOptions(max_downtime=1.5)),
        ("--live --max-downtime 0", PrecopyOptions(max_downtime=0.0)),
        ("--live --iterations 30 --threshold 0", PrecopyOptions(iterations=30, threshold=0)),
        ("--live --bandwidth 100M", PrecopyOptions(bandwidth=100 << 20)),
        ("--live --max-downtime 1m", PrecopyOptions(max_downtime=60.0)),
        ("--live --bandwidth 100MiB", PrecopyOptions(bandwidth=100 << 20)),
        ("--live --bandwidth 4096", PrecopyOptions(bandwidth=4096)),
        ("--live --bandwidth 3k", PrecopyOptions(bandwidth=3 << 10)),
        ("--live --bandwidth 1G --give-up", PrecopyOptions(bandwidth=1 << 30, give_up=True)),
        ("--live --compact -c", PrecopyOptions()),
    ],
)
def test_what_is_chosen(words, policy):
    assert chosen(*words.split()) == policy


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--live --max-downtime soon", "'soon' is no time of 86400 s at most, as 90, 5m or 300ms"),
        ("--live --max-downtime -1", "'-1' is no time"),
        ("--live --max-downtime 5M", "'5M' is no time"),
        ("--live --bandwidth 0", "'0' is no number of bytes, as 100M"),
        ("--live --bandwidth 1.5M", "'1.5M' is no number of bytes"),
        ("--live --bandwidth 1P", "is no number of bytes"),
        ("--live --iterations two", "'two' is no number"),
        ("--live --iterations 9999999999", "is no number"),
        ("--live --threshold ²", "is no number"),
        ("--max-downtime 300ms", "--max-downtime goes with --live"),
        ("--threshold 0", "--threshold goes with --live"),
        ("--give-up", "--give-up goes with --live"),
    ],
)
def test_what_makes_no_sense(words, match):
    with pytest.raises(UsageError, match=match):
        chosen(*words.split())
