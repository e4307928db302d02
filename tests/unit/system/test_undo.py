"""The undo beside its act."""

import pytest

from xenqemu.errors import HostError
from xenqemu.system.undo import undo_on_failure


def test_nothing_is_undone_that_worked():
    with undo_on_failure("undo", lambda: pytest.fail("undone")):
        pass


@pytest.mark.parametrize("kind", [HostError, KeyboardInterrupt, ZeroDivisionError])
def test_what_failed_is_undone(kind):
    undone = []
    with pytest.raises(kind), undo_on_failure("undo", lambda: undone.append(1)):
        raise kind
    assert undone == [1]


@pytest.mark.parametrize("second", [HostError("it is stuck"), OSError("it is stuck")])
def test_the_first_error_is_the_one_that_is_shown(second):
    def undo():
        raise second

    with pytest.raises(KeyError) as caught, undo_on_failure("release it", undo):
        raise KeyError
    assert caught.value.__notes__ == ["could not release it: it is stuck"]
