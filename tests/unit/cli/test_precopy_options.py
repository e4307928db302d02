"""The options that say when a guest is to be frozen."""

import pytest

from xenqemu.cli.parser import parser
from xenqemu.cli.precopy_options import live_policy
from xenqemu.errors import UsageError
from xenqemu.host.precopy import Precopy


def chosen(*words):
    return live_policy(parser().parse_args(["save", *words, "guest", "file"]))


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        ("", None),
        ("--live", Precopy()),
        ("--live --max-freeze 300ms", Precopy(max_freeze=0.3)),
        ("--live --max-freeze 2s", Precopy(max_freeze=2.0)),
        ("--live --max-freeze 1.5", Precopy(max_freeze=1.5)),
        ("--live --max-freeze 0", Precopy(max_freeze=0.0)),
        ("--live --rounds 30 --threshold 0", Precopy(rounds=30, threshold=0)),
        ("--live --bandwidth 100M", Precopy(bandwidth=100 << 20)),
        ("--live --bandwidth 4096", Precopy(bandwidth=4096)),
        ("--live --bandwidth 3k", Precopy(bandwidth=3 << 10)),
        ("--live --bandwidth 1G --give-up", Precopy(bandwidth=1 << 30, give_up=True)),
        ("--live --compact -c", Precopy()),
    ],
)
def test_what_is_chosen(words, policy):
    assert chosen(*words.split()) == policy


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--live --max-freeze soon", "'soon' is no time, as 300ms or 2s"),
        ("--live --max-freeze -1", "'-1' is no time"),
        ("--live --max-freeze 1m", "'1m' is no time"),
        ("--live --bandwidth 0", "'0' is no number of bytes, as 100M"),
        ("--live --bandwidth 1.5M", "'1.5M' is no number of bytes"),
        ("--live --bandwidth 1T", "is no number of bytes"),
        ("--live --rounds two", "'two' is no number"),
        ("--live --rounds 9999999999", "is no number"),
        ("--live --threshold ²", "is no number"),
        ("--max-freeze 300ms", "--max-freeze goes with --live"),
        ("--threshold 0", "--threshold goes with --live"),
        ("--give-up", "--give-up goes with --live"),
        ("--compact", "--compact goes with --live"),
    ],
)
def test_what_makes_no_sense(words, match):
    with pytest.raises(UsageError, match=match):
        chosen(*words.split())
