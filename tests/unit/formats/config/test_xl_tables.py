"""What xl prints about a host, as Xen 4.17 and 4.20 do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.xen.xl_prints import INFO, LIST
from xenqemu.formats.config.xl_tables import domains, numbers


def test_numbers_of_xl_info_are_read():
    found = numbers(INFO)
    assert found == {
        "nr_cpus": 1,
        "total_memory": 2047,
        "free_memory": 1234,
        "xen_major": 4,
        "xen_minor": 17,
    }


def test_domains_of_xl_list_are_read_though_names_have_blanks():
    assert [tuple(each) for each in domains(LIST)] == [
        ("Domain-0", 0, "00000000-0000-0000-0000-000000000000", 700),
        ("a name with 3 blanks", 2, "9233e52c-49ca-454f-96be-f53e22f3994d", 128),
        ("(null)", 7, "18be6b66-e6e1-11f1-bc13-830b39936407", 16),
    ]


UUID = "9233e52c-49ca-454f-96be-f53e22f3994d"


@pytest.mark.parametrize(
    "line",
    [
        "free_memory : " + "9" * 5000,
        f"guest {'9' * 5000} 128 1 -b---- 0.3 {UUID}",
        f"guest 2 {'9' * 5000} 1 -b---- 0.3 {UUID}",
        "guest" + " " * 1_000_000 + "2",
        "1 " * 500_000,
    ],
)
def test_numbers_and_lines_without_end_are_passed_over(line):
    assert (numbers(line), list(domains(line))) == ({}, [])


@given(st.text(max_size=300))
def test_anything_else_is_passed_over(text):
    assert all(isinstance(value, int) for value in numbers(text).values())
    assert all(len(each.uuid) == 36 for each in domains(text))
