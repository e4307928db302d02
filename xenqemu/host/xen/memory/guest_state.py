"""What an image holds of an HVM or PVH guest beside its pages, read from Xen."""

from __future__ import annotations

from collections.abc import Iterable
from ctypes import byref, c_ubyte, c_uint32, c_uint64

from xenqemu.errors import HypervisorError
from xenqemu.formats.stream.libxc_records import (
    LEAF,
    MSR,
    CpuidLeaf,
    HvmContext,
    HvmParams,
    MsrEntry,
    X86CpuidPolicy,
    X86MsrPolicy,
    X86TscInfo,
)
from xenqemu.formats.stream.value import Value
from xenqemu.host.xen.control import Control
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.releases import CpuPolicy

PV_MAX, HVM_MAX = 2, 3
"""Which policy of the host: XEN_SYSCTL_cpu_policy_* of sysctl.h."""

POLICY_MAX = 1 << 16
"""Most entries of a cpu policy that are accepted; real ones have some hundreds."""


def policies(xen: Xen, domid: int) -> list[Value]:
    """Return the records of a guest's cpu policy; none where this Xen saves none (before 4.14)."""
    return _policies(xen, "domain", domid)


def largest_policies(xen: Xen, *, hvm: bool) -> list[Value]:
    """Return the records of the most that this host can give to a guest, as `policies` does."""
    return _policies(xen, "system", HVM_MAX if hvm else PV_MAX)


def cpuid(records: Iterable[Value]) -> tuple[CpuidLeaf, ...]:
    """Return what CPUID says by the records of a policy; nothing where they do not tell."""
    leaves = (record.leaves for record in records if isinstance(record, X86CpuidPolicy))
    return next(leaves, ())


def _policies(xen: Xen, whose: str, number: int) -> list[Value]:
    """Return the cpu policy of a "domain", or of the "system", by its number."""
    kind = xen.release.cpu_policy
    if kind is CpuPolicy.NONE:
        return []
    buffers = _PolicyBuffers(xen, kind)
    if kind is CpuPolicy.DIRECT:
        leaves, msrs = buffers.leaves, buffers.msrs
        counts = byref(buffers.nr_leaves), byref(buffers.nr_msrs)
        xen.call(f"xc_get_{whose}_cpu_policy", number, counts[0], leaves, counts[1], msrs)
    else:
        _serialise(xen, f"xc_cpu_policy_get_{whose}", number, buffers)
    return buffers.records()


def tsc_info(xen: Xen, domid: int) -> X86TscInfo:
    """Return the state of the guest's time stamp counter."""
    mode, nsec, khz, incarnation = c_uint32(), c_uint64(), c_uint32(), c_uint32()
    fields = (byref(mode), byref(nsec), byref(khz), byref(incarnation))
    xen.call("xc_domain_get_tsc_info", domid, *fields)
    return X86TscInfo(mode.value, khz.value, nsec.value, incarnation.value)


def max_context_size(xen: Xen, domid: int) -> int:
    """Return how many bytes `hvm_context` has at most; the guest may run."""
    size = xen.call("xc_domain_hvm_getcontext", domid, None, 0)
    _require_at_most(size, HvmContext.LIMIT, "bytes of HVM context")
    return size


def hvm_context(xen: Xen, domid: int) -> HvmContext:
    """Return Xen's own state of the guest."""
    size = max_context_size(xen, domid)
    buffer = (c_ubyte * size)()
    used = xen.call("xc_domain_hvm_getcontext", domid, buffer, size)
    return HvmContext(bytes(buffer)[:used])


def hvm_params(xen: Xen, domid: int) -> HvmParams:
    """Return those HVM_PARAM_* that belong into an image and are not zero."""
    control = Control(xen)
    values = {index: control.hvm_param(domid, index) for index in xen.release.params}
    return HvmParams({index: value for index, value in values.items() if value})


class _PolicyBuffers:
    """Buffers for the cpu policy of any domain, and how much of them was used."""

    def __init__(self, xen: Xen, kind: CpuPolicy) -> None:
        direct = kind is CpuPolicy.DIRECT
        size = "xc_get_cpu_policy_size" if direct else "xc_cpu_policy_get_size"
        self.nr_leaves, self.nr_msrs = c_uint32(0), c_uint32(0)
        xen.call(size, byref(self.nr_leaves), byref(self.nr_msrs))
        for number in (self.nr_leaves, self.nr_msrs):
            _require_at_most(number.value, POLICY_MAX, "entries of cpu policy")
        self.leaves = (c_ubyte * (self.nr_leaves.value * LEAF.size))()
        self.msrs = (c_ubyte * (self.nr_msrs.value * MSR.size))()

    def records(self) -> list[Value]:
        """Return what is not empty."""
        leaves = bytes(self.leaves)[: self.nr_leaves.value * LEAF.size]
        msrs = bytes(self.msrs)[: self.nr_msrs.value * MSR.size]
        records: list[Value] = []
        if leaves:
            records.append(X86CpuidPolicy(tuple(map(CpuidLeaf._make, LEAF.iter_unpack(leaves)))))
        if msrs:
            records.append(X86MsrPolicy(tuple(map(MsrEntry._make, MSR.iter_unpack(msrs)))))
        return records


def _serialise(xen: Xen, getter: str, number: int, buffers: _PolicyBuffers) -> None:
    policy = xen.libraries["xc_cpu_policy_init"]()
    if policy is None:
        raise HypervisorError("xc_cpu_policy_init: no memory")
    try:
        xen.call(getter, number, policy)
        counts = byref(buffers.nr_leaves), byref(buffers.nr_msrs)
        xen.call(
            "xc_cpu_policy_serialise", policy, buffers.leaves, counts[0], buffers.msrs, counts[1]
        )
    finally:
        xen.libraries["xc_cpu_policy_destroy"](policy)


def _require_at_most(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise HypervisorError(f"Xen reports {number} {what}, more than {limit}")
