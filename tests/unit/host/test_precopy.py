"""What comes after a round, as a table: the policy, what the rounds were, the step."""

import pytest

from xenqemu.host.precopy import Precopy, Round, Step, decide

GO_ON, FREEZE, GIVE_UP = Step.GO_ON, Step.FREEZE, Step.GIVE_UP
PAGE = 4096


def rounds(*changed, a_page=0.001, look=0.0):
    """Return rounds of 1000 pages that took `a_page` seconds each, and left so many changed."""
    return [
        Round(number, 1000, 1000 * PAGE, 1000 * a_page, count, look)
        for number, count in enumerate(changed, 1)
    ]


@pytest.mark.parametrize(
    ("policy", "so_far", "step"),
    [
        # libxc's own: few enough, or enough rounds
        (Precopy(), rounds(51), GO_ON),
        (Precopy(), rounds(50), FREEZE),
        (Precopy(), rounds(0), FREEZE),
        (Precopy(), rounds(900, 800, 700, 600), GO_ON),
        (Precopy(), rounds(900, 800, 700, 600, 500), FREEZE),
        (Precopy(give_up=True), rounds(900, 800, 700, 600, 500), GIVE_UP),
        (Precopy(give_up=True), rounds(900, 800, 700, 600, 50), FREEZE),
        (Precopy(rounds=1), rounds(900), FREEZE),
        (Precopy(rounds=1, give_up=True), rounds(900), GIVE_UP),
        (Precopy(threshold=0), rounds(1), GO_ON),
        # a longest freeze: 300 pages of a millisecond each are 0.3 s
        (Precopy(max_freeze=0.3), rounds(900, 300), FREEZE),
        (Precopy(max_freeze=0.3), rounds(900, 301), GO_ON),
        (Precopy(max_freeze=0.3), rounds(900, 300, look=0.01), GO_ON),
        (Precopy(max_freeze=0.3, rounds=3), rounds(900, 301, 301), FREEZE),
        (Precopy(max_freeze=0.3, rounds=3, give_up=True), rounds(900, 301, 301), GIVE_UP),
        (Precopy(max_freeze=0.3, rounds=3, give_up=True), rounds(900, 301, 299), FREEZE),
        # the first round says little of how long changed pages take, unless they are next to none
        (Precopy(max_freeze=0.3), rounds(299), GO_ON),
        (Precopy(max_freeze=0.3), rounds(50), FREEZE),
        # to look takes longer than that: more rounds would not help
        (Precopy(max_freeze=0.3), rounds(50, look=0.4), FREEZE),
        (Precopy(max_freeze=0.3, give_up=True), rounds(50, look=0.4), GIVE_UP),
        (Precopy(max_freeze=0.3, give_up=True), rounds(60, look=0.4), GO_ON),
    ],
)
def test_what_comes_after_a_round(policy, so_far, step):
    assert decide(policy, so_far) is step


def test_the_last_round_counts():
    calm = Round(3, 100, 100 * PAGE, 0.1, changed=200)
    assert decide(Precopy(max_freeze=0.3), [*rounds(9000, 9000), calm]) is FREEZE


def test_what_a_round_says():
    made = Round(2, pages=200, size=1_000_000, seconds=0.5, changed=40, look=0.25)
    assert made.rate == 2_000_000
    assert made.expected_freeze == pytest.approx(0.25 + 40 * 0.0025)


def test_a_round_without_pages():
    made = Round(2, pages=0, size=0, seconds=0.0, changed=5, look=0.25)
    assert (made.rate, made.expected_freeze) == (0.0, 0.25)
