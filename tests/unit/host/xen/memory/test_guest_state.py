"""CPU policies: a guest's, and the most that the host can give."""

import pytest

from tests.doubles.xen.fake_xen import LEAVES, MOST_LEAVES, MSRS, Guest, fake_xen
from xenqemu.host.xen.memory.guest_state import largest_policies, policies


def packed(records):
    return [record.pack() for record in records]


@pytest.mark.parametrize("version", [(4, 14), (4, 15), (4, 16), (4, 20)])
def test_policies_of_a_guest_and_of_the_host(version):
    libraries, xen = fake_xen(version)
    libraries.guests[7] = Guest()
    assert packed(policies(xen, 7)) == [LEAVES, MSRS]
    assert packed(largest_policies(xen, hvm=True)) == [MOST_LEAVES[3], MSRS]
    assert packed(largest_policies(xen, hvm=False)) == [MOST_LEAVES[2], MSRS]


def test_a_xen_that_saves_none():
    libraries, xen = fake_xen((4, 13))
    libraries.guests[7] = Guest()
    assert policies(xen, 7) == largest_policies(xen, hvm=True) == []
