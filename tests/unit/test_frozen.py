"""Values: made, compared, shown, and never changed."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

from xenqemu.frozen import Frozen


class Place(Frozen):
    """A value with a default."""

    NAME: ClassVar[str] = "place"
    x: int
    y: int = 7


class Named(Place):
    """One with a field more."""

    name: str


class Same(Frozen):
    """Other fields of the same names."""

    x: int
    y: int = 7


def test_values_are_given_by_place_by_name_or_by_default():
    assert Place(1, 2) == Place(1, y=2) == Place(y=2, x=1)
    assert vars(Place(1)) == {"x": 1, "y": 7}
    assert list(vars(Place(y=2, x=1))) == ["x", "y"]
    assert vars(Named(1, 2, "a")) == {"x": 1, "y": 2, "name": "a"}
    assert vars(Named(1, name="a")) == {"x": 1, "y": 7, "name": "a"}


@pytest.mark.parametrize(
    ("values", "named", "said"),
    [
        ((), {}, "Place needs x"),
        ((), {"y": 1}, "Place needs x"),
        ((1, 2, 3), {}, "has the fields x, y, each once"),
        ((1,), {"x": 1}, "has the fields x, y, each once"),
        ((1,), {"z": 1}, "has the fields x, y, each once"),
        ((1,), {"NAME": "a"}, "has the fields x, y, each once"),
    ],
)
def test_what_fits_no_field_is_refused(values, named, said):
    with pytest.raises(TypeError, match=said):
        Place(*values, **named)


def test_equal_are_values_of_one_class():
    assert Place(1) == Place(1)
    assert Place(1) != Place(2)
    assert Place(1) != Same(1)
    assert Place(1) != (1, 7)
    assert len({Place(1), Place(1), Place(2)}) == 2
    with pytest.raises(TypeError):
        hash(Place([]))  # type: ignore[arg-type]


def test_nothing_is_changed():
    place = Place(1)
    with pytest.raises(AttributeError, match="Place is immutable"):
        place.x = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="Place is immutable"):
        del place.x
    assert place == Place(1)


def test_it_is_shown_and_copied():
    assert Named(1, name="a").but(x=2) == Named(2, name="a")
    assert repr(Named(1, name="a")) == "Named(x=1, y=7, name='a')"
    assert copy.deepcopy(Place(1)) == pickle.loads(pickle.dumps(Place(1))) == Place(1)
