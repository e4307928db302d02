"""The CPU features that a guest has seen and another CPU policy lacks.

A guest that has seen a feature continues to use it: on a host without it, it crashes, though Xen
builds it.  The features are in these words of the CPUID leaves, one a bit:

::

    1             ecx edx         basic
    7.0 7.1 7.2   eax ebx ecx edx structured extended
    d.1           eax             XSAVE
    80000001      ecx edx         extended
    80000007 edx  80000008 ebx  80000021 eax

Source: xen/include/public/arch-x86/cpufeatureset.h.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xenqemu.formats.stream.libxc_records import CpuidLeaf

NO_SUBLEAF = 0xFFFFFFFF
"""The subleaf of a leaf that has none."""

REGISTERS = ("eax", "ebx", "ecx", "edx")

WORDS = (
    *((1, NO_SUBLEAF, register) for register in ("ecx", "edx")),
    *((7, 0, register) for register in ("ebx", "ecx", "edx")),
    *((7, 1, register) for register in REGISTERS),
    (7, 2, "edx"),
    (0xD, 1, "eax"),
    *((0x80000001, NO_SUBLEAF, register) for register in ("ecx", "edx")),
    (0x80000007, NO_SUBLEAF, "edx"),
    (0x80000008, NO_SUBLEAF, "ebx"),
    (0x80000021, NO_SUBLEAF, "eax"),
)
"""Leaf, subleaf and register of each word of features."""


SHARED = {(0x80000001, NO_SUBLEAF, "edx"): 0x0183F3FF}
"""Bits that repeat those of leaf 1 edx where the guest's CPU is AMD's, and in no policy of a host
(CPUID_COMMON_1D_FEATURES)."""


def with_features(leaves: Iterable[CpuidLeaf]) -> tuple[CpuidLeaf, ...]:
    """Return those leaves of a policy that have words of features, each once, the last one."""
    places = {(leaf, subleaf) for leaf, subleaf, _register in WORDS}
    found = {(each.leaf, each.subleaf): each for each in leaves}
    return tuple(leaf for place, leaf in found.items() if place in places)


class Lacking(NamedTuple):
    """The features of one word that are lacking: its place, as "7.0 ebx", and their bits."""

    place: str
    bits: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        """The word and its bits, each with the name that xl has for it, if any."""
        named = (f"{bit} ({name})" if name else f"{bit}" for bit, name in self.bits)
        return f"{self.place} bit {', '.join(named)}"


def lacking(guest: Iterable[CpuidLeaf], host: Iterable[CpuidLeaf]) -> Iterator[Lacking]:
    """Yield, word by word, the features of the guest's that the host's policy lacks."""
    seen, there = _words(guest), _words(host)
    for word in WORDS:
        gone = seen.get(word, 0) & ~there.get(word, 0) & ~SHARED.get(word, 0)
        if gone:
            leaf, subleaf, register = word
            place = f"{leaf:x}" if subleaf == NO_SUBLEAF else f"{leaf:x}.{subleaf:x}"
            bits = [bit for bit in range(32) if gone >> bit & 1]
            names = _names(word)
            yield Lacking(f"{place} {register}", tuple((bit, names.get(bit, "")) for bit in bits))


def _names(word: tuple[int, int, str]) -> dict[int, str]:
    """Return the names that xl has for the bits of a word."""
    from xenqemu.formats.config.cpuid_names import FEATURES  # noqa: PLC0415  seldom needed

    return {
        bits.low: name
        for name, bits in FEATURES.items()
        if (bits.leaf, NO_SUBLEAF if bits.subleaf is None else bits.subleaf, bits.register) == word
    }


def _words(leaves: Iterable[CpuidLeaf]) -> dict[tuple[int, int, str], int]:
    return {
        (leaf.leaf, leaf.subleaf, register): value
        for leaf in leaves
        for register, value in zip(REGISTERS, leaf[2:], strict=True)
    }
