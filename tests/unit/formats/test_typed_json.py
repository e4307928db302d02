"""Values go through JSON and come back, and what JSON has of another shape is none of them."""

import json
from dataclasses import dataclass

import pytest

from xenqemu.formats.typed_json import Tagged, plain, typed


@dataclass(frozen=True)
class Place:
    name: str
    number: int = 0


class Family(Tagged):
    pass


class Other(Tagged):
    pass


class Lives(Family):
    place: Place
    share: float


class Sits(Family):
    places: tuple[Place, ...] = ()


@dataclass(frozen=True)
class House:
    first: Family | None
    all: tuple[Family, ...]
    warm: bool = True


LIVES = Lives(Place("here", 1), 0.5)
VALUES = [
    (str, "a", "a"),
    (Place, Place("here"), {"name": "here", "number": 0}),
    (Family, LIVES, {"Lives": {"place": {"name": "here", "number": 1}, "share": 0.5}}),
    (Sits, Sits((Place("a"),)), {"Sits": {"places": [{"name": "a", "number": 0}]}}),
    (House, House(None, ()), {"first": None, "all": [], "warm": True}),
    (
        House,
        House(Sits(), (LIVES, Sits())),
        {
            "first": {"Sits": {"places": []}},
            "all": [plain(LIVES), {"Sits": {"places": []}}],
            "warm": True,
        },
    ),
]


@pytest.mark.parametrize(("kind", "value", "in_json"), VALUES)
def test_values_go_and_come_back(kind, value, in_json):
    assert plain(value) == in_json
    assert typed(kind, json.loads(json.dumps(in_json))) == value


@pytest.mark.parametrize(
    ("kind", "in_json"),
    [
        *((int, value) for value in (True, 1.0, "1", None, [1])),
        *((bool, value) for value in (1, 0.0, "true", None)),
        *((float, value) for value in (1, True, "1.5")),
        *((Place, value) for value in ({}, [], "here", None, {"name": "here"}, ["name", "number"])),
        *((Place, {"name": name, "number": 1}) for name in (1, None, ["here"], {})),
        (Place, {"name": "here", "number": 1, "more": 1}),
        *((tuple[int, ...], value) for value in ({}, "12", 5, None, ["1"], [1, None])),
        *((Family, value) for value in ({}, [], "Sits", None, ["Sits"], {"Sits": {}})),
        *((Family, {"Sits": values}) for values in ([], None, "places", {"places": None})),
        (Family, {"Sits": {"places": []}, "Lives": {}}),
        (Family, {"Unheard": {}}),
        (Other, {"Sits": {"places": []}}),
        (House, {"first": {}, "all": [], "warm": True}),
        (House, {"first": False, "all": [], "warm": True}),
        (House, {"first": None, "all": [None], "warm": True}),
    ],
)
def test_what_is_none(kind, in_json):
    with pytest.raises(ValueError, match="is no "):
        typed(kind, in_json)


def test_members_of_a_family_are_values():
    assert Lives(Place("here", 1), 0.5) == LIVES
    assert Sits() != Lives(Place("a"), 0.0)
    with pytest.raises(AttributeError, match="cannot assign"):
        LIVES.share = 1.0
