"""The tree that `xenqemu.errors` draws is the tree of its classes, exit codes included."""

import re
from collections import Counter

import pytest

from xenqemu import errors
from xenqemu.errors import FormatError, OperationError, PastReturn, XenqemuError

LINE = re.compile(r"^    (?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<code>\d+)? +(?P<text>\S.*)$")
DEPTH = 4
"""Columns that a level of the drawing takes."""


def drawn(text: str) -> dict[str, tuple[str | None, int | None]]:
    """Return of each class in the drawing its parent and the exit code beside it."""
    tree: dict[str, tuple[str | None, int | None]] = {}
    path: list[str] = []
    for line in text.splitlines():
        if found := LINE.match(line):
            level = len(found["indent"]) // DEPTH
            parent = path[level - 1] if level else None
            path[level:] = [found["name"]]
            tree[found["name"]] = (parent, int(found["code"]) if found["code"] else None)
    return tree


def classes(top: type[XenqemuError] = XenqemuError) -> list[type[XenqemuError]]:
    """Return `top` and all that derive from it in the module of errors."""
    below = [cls for cls in top.__subclasses__() if cls.__module__ == errors.__name__]
    return [top, *(cls for child in below for cls in classes(child))]


TREE = drawn(errors.__doc__ or "")


def test_drawing_is_the_tree():
    assert {name: parent for name, (parent, _) in TREE.items()} == {
        cls.__name__: None if cls is XenqemuError else cls.__base__.__name__ for cls in classes()
    }


def test_exit_codes_stand_where_they_are_drawn():
    own = {cls.__name__: vars(cls).get("exit_code") for cls in classes()}
    assert own == {name: code for name, (_, code) in TREE.items()} | {"OperationError": None}


def test_exit_codes_are_unique_and_none_is_a_success_or_a_signal():
    codes = Counter(code for _, code in TREE.values() if code is not None)
    assert set(codes.values()) == {1}
    assert all(0 < code < 128 for code in codes)


def test_every_class_answers_with_the_nearest_code_above_it():
    def nearest(name: str) -> int:
        parent, code = TREE[name]
        return code if code is not None else nearest(parent)

    assert {cls.__name__: cls.exit_code for cls in classes()} == {
        name: nearest(name) for name in TREE
    }


def test_every_class_is_exported_and_nothing_else():
    assert errors.__all__ == sorted(cls.__name__ for cls in classes())


def test_every_class_says_what_it_means():
    assert [cls.__name__ for cls in classes() if not cls.__doc__] == []


def test_drawing_is_read_level_by_level():
    text = (
        "    Aa    1   top\n    ├── Bb    2   one\n    │   └── Cc    below\n    └── Dd  3   end\n"
    )
    assert drawn(text) == {"Aa": (None, 1), "Bb": ("Aa", 2), "Cc": ("Bb", None), "Dd": ("Aa", 3)}


@pytest.mark.parametrize("cls", classes(FormatError), ids=lambda cls: cls.__name__)
def test_bad_bytes_are_told_by_their_place(cls):
    error = cls("libxc END", 0x1234, "no body", "5 bytes")
    assert str(error) == "libxc END at offset 0x1234: expected no body, got 5 bytes"
    assert (error.record, error.offset) == ("libxc END", 0x1234)
    assert (error.expected, error.got) == ("no body", "5 bytes")


@pytest.mark.parametrize(
    ("name", "field"),
    [("StoreError", "code"), ("DeviceModelError", "kind"), ("WriteFailed", "kind")],
)
def test_words_of_a_party_are_kept(name, field):
    cls = getattr(errors, name)
    assert getattr(cls("refused"), field) == ""
    assert getattr(cls("refused", "EACCES"), field) == "EACCES"
    assert str(cls("refused", "EACCES")) == "refused"


@pytest.mark.parametrize("cls", classes(OperationError), ids=lambda cls: cls.__name__)
def test_operations_say_where_they_failed(cls):
    error = cls("the guest is as it was", "save")
    assert (str(error), error.phase) == ("the guest is as it was", "save")


def test_nobody_knows_is_a_kind_of_past_return():
    """Who handles only `PastReturn` must not take an unknown outcome for a safe one."""
    assert issubclass(errors.OutcomeUnknown, PastReturn)
    assert not issubclass(errors.Stranded, errors.RolledBack)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyboardInterrupt(), "interrupted"),
        (
            OSError(28, "No space left on device", "/there/file"),
            "/there/file: No space left on device",
        ),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (errors.HostError("it hangs"), "it hangs"),
    ],
)
def test_words_for_people(error, words):
    assert errors.in_words(error) == words
