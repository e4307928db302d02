"""The options that say when a guest is to be frozen."""

import pytest

from xenqemu.cli.parser import parser
from xenqemu.cli.precopy_options import live_policy
from xenqemu.errors import UsageError
from xenqemu.host.precopy import PrecopyOptions


def chosen(*words):
    return live_policy(parser().parse_args(["save", *words, "guest", "file"]))


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
        ("--live --max-downtime soon", "'soon' is no time, as 300ms or 2s"),
        ("--live --max-downtime -1", "'-1' is no time"),
        ("--live --max-downtime 1m", "'1m' is no time"),
        ("--live --bandwidth 0", "'0' is no number of bytes, as 100M"),
        ("--live --bandwidth 1.5M", "'1.5M' is no number of bytes"),
        ("--live --bandwidth 1T", "is no number of bytes"),
        ("--live --iterations two", "'two' is no number"),
        ("--live --iterations 9999999999", "is no number"),
        ("--live --threshold ²", "is no number"),
        ("--max-downtime 300ms", "--max-downtime goes with --live"),
        ("--threshold 0", "--threshold goes with --live"),
        ("--give-up", "--give-up goes with --live"),
        ("--compact", "--compact goes with --live"),
    ],
)
def test_what_makes_no_sense(words, match):
    with pytest.raises(UsageError, match=match):
        chosen(*words.split())
