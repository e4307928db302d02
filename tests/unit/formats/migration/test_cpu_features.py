"""Features that a guest has seen and another CPU lacks."""

import pytest

from tests.golden import save_files
from xenqemu.formats.migration.cpu_features import NO_SUBLEAF, SHARED, WORDS, lacking, with_features
from xenqemu.formats.stream.detect import Walk
from xenqemu.formats.stream.libxc_records import CpuidLeaf, X86CpuidPolicy
from xenqemu.formats.stream.source import Source


def leaves(name):
    """Return the CPUID policy of a real guest."""
    walk = Walk(Source.of(save_files.unpacked(name)))
    (policy,) = [step.value for step in walk if isinstance(step.value, X86CpuidPolicy)]
    return policy.leaves


def changed(policy, leaf, subleaf, **registers):
    """Return a policy with registers of one leaf replaced."""
    return tuple(
        each._replace(**registers) if (each.leaf, each.subleaf) == (leaf, subleaf) else each
        for each in policy
    )


def test_guests_of_one_machine_lack_nothing():
    old, new = leaves("hvm.save"), leaves("hvm-xen4.20.save")
    assert list(lacking(old, old)) == list(lacking(old, new)) == list(lacking(new, old)) == []


@pytest.mark.parametrize(
    ("leaf", "subleaf", "register", "bit", "name"),
    [
        (1, NO_SUBLEAF, "d", 0, "1 edx bit 0 (fpu)"),
        (1, NO_SUBLEAF, "c", 31, "1 ecx bit 31 (hypervisor)"),
        (7, 0, "b", 16, "7.0 ebx bit 16 (avx512f)"),
        (0xD, 1, "a", 3, "d.1 eax bit 3 (xsaves)"),
        (0x80000021, NO_SUBLEAF, "a", 6, "80000021 eax bit 6 (nscb)"),
    ],
)
def test_a_feature_that_is_lacking_is_named(leaf, subleaf, register, bit, name):
    own = leaves("hvm-xen4.20.save")
    word = getattr(next(each for each in own if each[:2] == (leaf, subleaf)), register)
    told = changed(own, leaf, subleaf, **{register: word | 1 << bit})
    poor = changed(own, leaf, subleaf, **{register: word & ~(1 << bit)})
    assert list(map(str, lacking(told, poor))) == [name]
    assert list(lacking(poor, told)) == []


def test_what_is_no_feature_may_differ():
    own = leaves("hvm.save")
    other = changed(own, 0, NO_SUBLEAF, a=0, b=0, c=0, d=0)  # the vendor
    other = changed(other, 1, NO_SUBLEAF, a=0, b=0)  # family, APIC id
    assert list(lacking(own, other)) == []


def test_what_amd_repeats_of_leaf_1_is_no_feature_of_its_own():
    own = leaves("hvm.save")
    word = next(each for each in own if each[:2] == (0x80000001, NO_SUBLEAF)).d
    repeating = changed(own, 0x80000001, NO_SUBLEAF, d=word | 0x0183F3FF)
    assert (
        list(lacking(repeating, changed(own, 0x80000001, NO_SUBLEAF, d=word & ~0x0183F3FF))) == []
    )


def test_a_leaf_that_is_not_there_has_no_features():
    everything = tuple(
        CpuidLeaf(leaf, subleaf, *[0xFFFFFFFF] * 4)
        for leaf, subleaf in dict.fromkeys(word[:2] for word in WORDS)
    )
    gone = list(lacking(everything, ()))
    assert len(gone) == len({each.place for each in gone}) == len(WORDS)
    bits = 32 * len(WORDS) - sum(mask.bit_count() for mask in SHARED.values())
    assert sum(len(each.bits) for each in gone) == bits
    assert list(lacking((), everything)) == []


def test_only_leaves_with_features_are_kept_and_each_once():
    own = leaves("hvm.save")
    kept = with_features(own)
    assert {each[:2] for each in kept} == {each[:2] for each in own} & {word[:2] for word in WORDS}
    (last,) = with_features([own[1], own[1]._replace(a=7)])
    assert last.a == 7
    assert list(lacking(own, kept)) == list(lacking(kept, own)) == []
