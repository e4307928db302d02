"""What comes after an iteration, as a table: the options, what the iterations were, the step."""

import pytest

from xenqemu.host.precopy import Decision, Iteration, decide
from xenqemu.host.precopy_options import PrecopyOptions

CONTINUE, SUSPEND, GIVE_UP = Decision.CONTINUE, Decision.SUSPEND, Decision.GIVE_UP
PAGE = 4096


def iterations(*changed, a_page=0.001, look=0.0):
    """Return iterations of 1000 pages that took `a_page` seconds each, and left so many changed."""
    return [
        Iteration(number, 1000, 1000 * PAGE, 1000 * a_page, count, look)
        for number, count in enumerate(changed, 1)
    ]


@pytest.mark.parametrize(
    ("options", "so_far", "step"),
    [
        # libxc's own: few enough, or enough iterations
        (PrecopyOptions(), iterations(51), CONTINUE),
        (PrecopyOptions(), iterations(50), SUSPEND),
        (PrecopyOptions(), iterations(0), SUSPEND),
        (PrecopyOptions(), iterations(900, 800, 700, 600), CONTINUE),
        (PrecopyOptions(), iterations(900, 800, 700, 600, 500), SUSPEND),
        (PrecopyOptions(give_up=True), iterations(900, 800, 700, 600, 500), GIVE_UP),
        (PrecopyOptions(give_up=True), iterations(900, 800, 700, 600, 50), SUSPEND),
        (PrecopyOptions(iterations=1), iterations(900), SUSPEND),
        (PrecopyOptions(iterations=1, give_up=True), iterations(900), GIVE_UP),
        (PrecopyOptions(threshold=0), iterations(1), CONTINUE),
        # a longest downtime: 300 pages of a millisecond each are 0.3 s
        (PrecopyOptions(max_downtime=0.3), iterations(900, 300), SUSPEND),
        (PrecopyOptions(max_downtime=0.3), iterations(900, 301), CONTINUE),
        (PrecopyOptions(max_downtime=0.3), iterations(900, 300, look=0.01), CONTINUE),
        (PrecopyOptions(max_downtime=0.3, iterations=3), iterations(900, 301, 301), SUSPEND),
        (
            PrecopyOptions(max_downtime=0.3, iterations=3, give_up=True),
            iterations(900, 301, 301),
            GIVE_UP,
        ),
        (
            PrecopyOptions(max_downtime=0.3, iterations=3, give_up=True),
            iterations(900, 301, 299),
            SUSPEND,
        ),
        # the first iteration says little of how long changed pages take, unless next to none
        (PrecopyOptions(max_downtime=0.3), iterations(299), CONTINUE),
        (PrecopyOptions(max_downtime=0.3), iterations(50), SUSPEND),
        # to look takes longer than that: more iterations would not help
        (PrecopyOptions(max_downtime=0.3), iterations(50, look=0.4), SUSPEND),
        (PrecopyOptions(max_downtime=0.3, give_up=True), iterations(50, look=0.4), GIVE_UP),
        (PrecopyOptions(max_downtime=0.3, give_up=True), iterations(60, look=0.4), CONTINUE),
    ],
)
def test_what_comes_after_a_iteration(options, so_far, step):
    assert decide(options, so_far) is step


def test_the_last_iteration_counts():
    calm = Iteration(3, 100, 100 * PAGE, 0.1, changed=200)
    assert decide(PrecopyOptions(max_downtime=0.3), [*iterations(9000, 9000), calm]) is SUSPEND


def test_what_a_iteration_says():
    made = Iteration(2, pages=200, size=1_000_000, seconds=0.5, changed=40, look=0.25)
    assert made.rate == 2_000_000
    assert made.expected_downtime == pytest.approx(0.25 + 40 * 0.0025)


def test_a_iteration_without_pages():
    made = Iteration(2, pages=0, size=0, seconds=0.0, changed=5, look=0.25)
    assert (made.rate, made.expected_downtime) == (0.0, 0.25)
