"""The tests' names tell which part they belong to and which Xen they run on."""

import pytest

from tests.parts import host_of, part_of, shortened


@pytest.mark.parametrize(
    ("nodeid", "part", "host"),
    [
        ("tests/integration/xen/test_x.py::test_y[4.17]", "Xen", "4.17"),
        ("tests/integration/xen/test_x.py::test_y[4.20-hvm]", "Xen", "4.20"),
        ("tests/integration/xen/test_x.py::test_y[receiver killed-4.17]", "Xen", "4.17"),
        ("tests/integration/xen/test_x.py::test_y", "Xen", ""),
        ("tests/integration/lab/test_x.py::test_y[4.5-3]", "lab", ""),
        ("tests/fuzz/test_fuzz.py::test_y", "fuzz", ""),
        ("tests/formats/test_hvm.py::test_y[needs Xen 4.17, got]", "unit", ""),
    ],
)
def test_part_and_host(nodeid, part, host):
    assert part_of(nodeid) == part
    assert host_of(nodeid) == host


def test_what_is_not_kept_is_long():
    assert [
        (each.values, [mark.name for mark in each.marks]) for each in shortened("abc", "b")
    ] == [
        (("a",), ["long"]),
        (("b",), []),
        (("c",), ["long"]),
    ]
