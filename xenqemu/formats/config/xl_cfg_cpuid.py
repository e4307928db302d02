"""The CPUID policy of an xl.cfg, as libxl has it in JSON (libxl_cpuid.c).

::

    cpuid = "host,NAME=VALUE,…"           libxl's syntax: bits 0, 1, x, k, s, or a number
    cpuid = [ "LEAF[,SUBLEAF]:eax=…,…" ]  xend's: 32 characters a register, from bit 31 down

What makes no sense xl warns of, and goes on without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xenqemu.formats.config.cpuid_names import ARCH_CAPS_MSR, FEATURES, FIELDS, MSR_FEATURES, Bits
from xenqemu.formats.config.xl_cfg_rows import present
from xenqemu.formats.config.xl_cfg_settings import U32, XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import pieces, ulong

_REGISTERS = ("eax", "ebx", "ecx", "edx")
_ANY = U32
"""The subleaf that means none (XEN_CPUID_INPUT_UNUSED)."""
_WIDTH = 32


@dataclass
class _Policy:
    """The leaves in the order in which they were named, and the MSR."""

    leaves: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)
    msr: str | None = None

    def leaf(self, leaf: int, subleaf: int | None) -> dict[str, str]:
        return self.leaves.setdefault((leaf, _ANY if subleaf is None else subleaf), {})

    def tree(self) -> dict[str, Any] | None:
        """Return what libxl writes; None for an empty policy."""
        leaves = [
            present({"leaf": leaf, "subleaf": None if subleaf == _ANY else subleaf}.items())
            | present((name, registers.get(name)) for name in _REGISTERS)
            for (leaf, subleaf), registers in self.leaves.items()
        ]
        msrs = [] if self.msr is None else [{"index": ARCH_CAPS_MSR, "policy": self.msr}]
        return {"cpuid": leaves, "msr": msrs} if leaves or msrs else None


def cpuid(cfg: XlCfgSettings) -> dict[str, Any] | None:
    """Read the CPUID policy, in either syntax."""
    policy = _Policy()
    if cfg.is_list("cpuid"):
        for line in cfg.texts("cpuid") or ():
            _complain(cfg, line, _line_of_xend(policy, line))
        return policy.tree()
    words = list(pieces(cfg.string("cpuid") or ""))
    if words and words[0] != "host":
        _complain(cfg, words[0], 'the first word must be "host"')
        return None
    for word in words[1:]:
        _complain(cfg, word, _word(policy, word))
    return policy.tree()


def _complain(cfg: XlCfgSettings, what: str, why: str) -> None:
    if why:
        cfg.warn("cpuid", f"{what[:40]!r} is ignored, as by xl: {why}")


def _word(policy: _Policy, word: str) -> str:
    """Take NAME=VALUE, and return what is wrong with it."""
    name, equals, value = word.partition("=")
    bits = FIELDS.get(name) or FEATURES.get(name)
    if not equals:
        return 'no "="'
    if bits is not None:
        return _bits(policy, name, bits, value)
    if name not in MSR_FEATURES:
        return "no such name"
    before = policy.msr = policy.msr or "x" * 64
    if value not in ("0", "1", "x", "k", "s"):
        return "no value of 0, 1, x, k, s"
    place = 63 - MSR_FEATURES[name]
    policy.msr = before[:place] + value.replace("s", "k") + before[place + 1 :]
    return ""


def _bits(policy: _Policy, name: str, bits: Bits, value: str) -> str:
    registers = policy.leaf(bits.leaf, bits.subleaf)
    number = ulong(value, 0)
    if number is not None:
        text = f"{number[0] % (1 << bits.length):0{bits.length}b}"
    elif value[:1] in ("x", "k", "s"):
        text = value[0] * bits.length
    else:
        return "no value of 0, 1, x, k, s"
    parts = [(bits.low, text)]
    if name == "family":
        parts = _family(bits.low, number[0] if number else 0, text)
    elif name == "model":
        parts = [(16, text[:4]), (bits.low, text[4:])]
    register = registers.get(bits.register, "x" * _WIDTH)
    for low, part in parts:
        end = _WIDTH - low
        register = register[: end - len(part)] + part + register[end:]
    registers[bits.register] = register
    return ""


def _family(low: int, number: int, text: str) -> list[tuple[int, str]]:
    """Return family and extended family; libxl writes seven bits of the latter, and a last one."""
    if number < 16:
        return [(low, text[4:]), (20, "00000000")]
    return [(low, "1111"), (20, text[0] + f"{(number - 15) % 128:07b}")]


def _line_of_xend(policy: _Policy, line: str) -> str:
    """Take one line of xend's, and return what is wrong with it; what stands before is taken."""
    leaf = ulong(line, 0)
    if leaf is None:
        return "no leaf"
    number, rest = leaf
    subleaf: int | None = None
    if rest.startswith(","):
        found = ulong(rest[1:], 0)
        if found is None:
            return "no subleaf"
        subleaf, rest = found[0] & U32, found[1]
    if not rest.startswith(":"):
        return "no colon"
    registers = policy.leaf(number & U32, subleaf)
    for piece in rest[1:].split(",") if rest[1:] else ():
        name, _, bits = piece.lstrip(" \n").partition("=")
        register = f"e{name[1:2]}x"
        if name[:1] != "e" or name[2:3] != "x" or register not in _REGISTERS:
            return "no register eax, ebx, ecx or edx"
        if len(bits) != _WIDTH:
            return f"no {_WIDTH} characters for {name}"
        registers[register] = bits
    return ""
