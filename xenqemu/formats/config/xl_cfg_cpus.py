"""vcpus, the CPUs that they may run on, and virtual NUMA nodes, of an xl.cfg (xl_parse.c)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from xenqemu.formats.config.domain_config import MAX_VCPUS
from xenqemu.formats.config.xl_cfg_rows import Reader, present
from xenqemu.formats.config.xl_cfg_settings import U32, U64, XlCfgSettings
from xenqemu.formats.config.xl_cfg_specs import C_BLANKS, pieces, ulong

MAX_NODES = 64
"""NUMA nodes of a host at most (Xen's MAX_NUMNODES); each has a distance to each."""
_SELECTION = "CPUs as 0-3,^1, or all, or nodes:0"


def vcpus(cfg: XlCfgSettings) -> int:
    """Return how many vcpus there are at first; 0 is left to libxl."""
    return _count(cfg, "vcpus")


def avail_vcpus(cfg: XlCfgSettings) -> list[int] | None:
    """Read which vcpus there are at first."""
    return list(range(vcpus(cfg))) or None


def max_vcpus(cfg: XlCfgSettings) -> int | None:
    """Read how many vcpus there can be: maxvcpus, or those of the NUMA nodes, or vcpus."""
    most, nodes = _count(cfg, "maxvcpus"), vnuma(cfg)
    named = sum(node.named for node in nodes)
    if nodes and most and most != named:
        raise cfg.bad("vnuma", f"maxvcpus vcpus, {most}", named)
    if named > cfg.host.cpus and not most:
        raise cfg.bad(
            "vnuma", f"at most {cfg.host.cpus} vcpus, the host's CPUs, or maxvcpus", named
        )
    most = most or named or vcpus(cfg)
    if most < vcpus(cfg):
        raise cfg.bad("maxvcpus", f"at least vcpus, {vcpus(cfg)}", most)
    return most or None


def affinity(key: str) -> Reader:
    """Read which CPUs each vcpu may run on: one string for all, or a list with one for each."""

    def read(cfg: XlCfgSettings) -> list[list[int]] | None:
        most = max_vcpus(cfg) or 0
        if cfg.is_list(key):
            chosen = [_selected(cfg, key, text) for text in cfg.all_texts(key)[:most]]
        else:
            text = cfg.string(key)
            chosen = [] if text is None else [_selected(cfg, key, text)] * most
        if key == "cpus" and not all(chosen):
            raise cfg.wrong(key, "at least one CPU of this host", "none")
        return chosen or None

    return read


def numa_placement(cfg: XlCfgSettings) -> str | None:
    """Read whether libxl may place the guest: not where something says where it goes."""
    placed = cfg.is_list("cpus") or cfg.is_list("cpus_soft") or cfg.is_set("cpus_soft")
    return "False" if placed or any(node.placed for node in vnuma(cfg)) else None


def vnuma_nodes(cfg: XlCfgSettings) -> list[dict[str, Any]] | None:
    """Read the virtual NUMA nodes."""
    return [
        present(
            {
                "memkb": node.mib << 10,
                "distances": node.distances,
                "vcpus": sorted(vcpu for vcpu in node.vcpus if vcpu < _bits(max_vcpus(cfg) or 0))
                or None,
            }.items()
        )
        for node in vnuma(cfg)
    ] or None


def vnuma_mib(cfg: XlCfgSettings) -> int | None:
    """Return the memory of all virtual NUMA nodes; None if there are none."""
    nodes = vnuma(cfg)
    return sum(node.mib for node in nodes) if nodes else None


@dataclass
class VirtualNode:
    """A virtual NUMA node; `named` is how many vcpus were named, one twice if it was."""

    distances: list[int]
    mib: int = 0
    vcpus: set[int] = field(default_factory=set)
    named: int = 0
    placed: bool = False


def vnuma(cfg: XlCfgSettings) -> list[VirtualNode]:
    """Return the virtual NUMA nodes of `vnuma = [ [ "pnode=0", "size=64", … ], … ]`."""
    specs = cfg.items("vnuma", quiet=True) or []
    if len(specs) > MAX_NODES:
        raise cfg.bad("vnuma", f"at most {MAX_NODES} nodes", len(specs))
    return [_node(cfg, spec, len(specs)) for spec in specs]


def _node(cfg: XlCfgSettings, spec: object, nodes: int) -> VirtualNode:
    if not isinstance(spec, list):
        raise cfg.wrong("vnuma", "a list of strings for each node", "a string")
    node = VirtualNode([0] * nodes)
    for option in map(str, (each for each in spec if not isinstance(each, list))):
        key, _, value = option.partition("=")
        if not value:
            raise cfg.bad("vnuma", "key=value", option)
        _set(cfg, node, key.strip(C_BLANKS), value.strip(C_BLANKS))
    return node


def _set(cfg: XlCfgSettings, node: VirtualNode, key: str, value: str) -> None:
    if key == "pnode":
        if _number(cfg, "vnuma", value) != 0:
            raise cfg.bad("vnuma", "pnode=0, the one node that is known here", value)
        node.placed = True
    elif key == "size":
        node.mib = _number(cfg, "vnuma", value)
    elif key == "vcpus":
        for piece in pieces(value):
            named = _range(cfg, "vnuma", piece)
            node.named += named.stop - named.start
            if node.named > MAX_VCPUS:
                raise cfg.bad("vnuma", f"at most {MAX_VCPUS} vcpus", value)
            node.vcpus.update(named)
    elif key == "vdistances":
        distances = [_number(cfg, "vnuma", piece) & U32 for piece in pieces(value)]
        if len(distances) > len(node.distances):
            raise cfg.bad("vnuma", f"a distance for each of {len(node.distances)} nodes", value)
        node.distances[: len(distances)] = distances
    else:
        cfg.warn("vnuma", f"{key[:40]!r} is ignored, as by xl")


def _count(cfg: XlCfgSettings, key: str) -> int:
    value = cfg.number(key) or 0
    if not 0 <= value <= MAX_VCPUS:
        raise cfg.bad(key, f"a number from 0 to {MAX_VCPUS}", value)
    return value


def _bits(count: int) -> int:
    """Return how many bits a libxl_bitmap of so many has: whole bytes."""
    return (count + 7) // 8 * 8


def _selected(cfg: XlCfgSettings, key: str, text: str) -> list[int]:
    bits = _bits(cfg.host.cpus)
    every, found = (1 << bits) - 1, 0  # masks: a long list stays quick
    for piece in pieces(text):
        rest = piece.removeprefix("^")
        cpus = rest.removeprefix("node:").removeprefix("nodes:")
        if cpus == "all":
            if piece != rest:
                raise cfg.bad(key, _SELECTION, piece)
            found = every
            continue
        named = _mask(_range(cfg, key, cpus), bits)
        if cpus != rest:  # nodes, of which one is known here
            named = (1 << cfg.host.cpus) - 1 if named & 1 else 0
        found = found & ~named if piece != rest else found | named
    return [cpu for cpu in range(bits) if found >> cpu & 1]


def _mask(numbers: range, bits: int) -> int:
    first, end = min(numbers.start, bits), min(numbers.stop, bits)
    return (1 << end) - (1 << first)


def _range(cfg: XlCfgSettings, key: str, text: str) -> range:
    """Return the numbers that 5 or 2-7 names."""
    first = ulong(text, 10)
    last = ulong(first[1][1:], 10) if first and first[1].startswith("-") else first
    if first is None or last is None or last[1] or U64 in (first[0], last[0]):
        raise cfg.bad(key, _SELECTION, text)
    if last[0] < first[0]:
        raise cfg.bad(key, _SELECTION, text)
    return range(first[0], last[0] + 1)


def _number(cfg: XlCfgSettings, key: str, text: str) -> int:
    found = ulong(text, 10)
    if found is None or found[0] == U64:
        raise cfg.bad(key, "a number", text)
    return found[0]
