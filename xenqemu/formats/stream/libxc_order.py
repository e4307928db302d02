"""The order of records in a libxc image, as a table, and which may be there only once.

::

    x86 HVM   [policies]  STATIC_DATA_END  PAGE_DATA...  X86_TSC_INFO  HVM_CONTEXT  HVM_PARAMS  END
    x86 PV    X86_PV_INFO  [policies]  STATIC_DATA_END  X86_PV_P2M_FRAMES  PAGE_DATA...
              X86_TSC_INFO  SHARED_INFO  X86_PV_VCPU_*...  END

Version 2 has no policies and no STATIC_DATA_END.  Instead of END a checkpointed image has
CHECKPOINT, and then pages again.  Optional records may be anywhere.

That is what Xen writes; what converted legacy streams have is legal too: X86_TSC_INFO among the
pages, HVM_PARAMS twice and before HVM_CONTEXT (as the specification wants it), SHARED_INFO after
the vcpus.  END may follow the pages at once: whether an image must have HVM_CONTEXT and the like
is for its user to say, a guest of the lab keeps all that in its device state.
"""

from __future__ import annotations

from enum import Enum, auto

from xenqemu.errors import BadRecord, Unsupported
from xenqemu.formats.stream.framing import Order
from xenqemu.formats.stream.libxc_pv_records import (
    SharedInfo,
    X86PvInfo,
    X86PvP2mFrames,
    X86PvVcpu,
    X86PvVcpuBasic,
    X86PvVcpuExtended,
    X86PvVcpuMsrs,
    X86PvVcpuXsave,
)
from xenqemu.formats.stream.libxc_records import (
    OPTIONAL,
    Checkpoint,
    CheckpointDirtyPfnList,
    End,
    HvmContext,
    HvmParams,
    SkippedRecord,
    StaticDataEnd,
    Toolstack,
    Verify,
    X86CpuidPolicy,
    X86MsrPolicy,
    X86TscInfo,
)
from xenqemu.formats.stream.page_data import PageData
from xenqemu.formats.stream.value import Value

LAYER = "libxc"
X86_PV = 1
X86_HVM = 2

POLICIES = (X86CpuidPolicy, X86MsrPolicy)
HVM_STATE = (HvmContext, HvmParams)
PV_VCPU = (X86PvVcpuBasic, X86PvVcpuExtended, X86PvVcpuXsave, X86PvVcpuMsrs)
PV_STATE = (SharedInfo, *PV_VCPU)

ALL: tuple[type[Value], ...] = (
    *(End, X86PvInfo, X86PvP2mFrames, *PV_STATE, X86TscInfo, *HVM_STATE, Toolstack, Verify),
    *(Checkpoint, CheckpointDirtyPfnList, StaticDataEnd, *POLICIES),
)
RECORDS = {cls.TYPE: cls for cls in ALL}
"""Every record whose body is read into memory, by type."""

NAMES = {PageData.TYPE: PageData.NAME} | {kind: cls.NAME for kind, cls in RECORDS.items()}


class ImageState(Enum):
    """What has been read of an image."""

    HVM_STATIC = auto()
    HVM_MEMORY = auto()
    HVM_STATE = auto()
    PV_START = auto()
    PV_STATIC = auto()
    PV_START_V2 = auto()
    PV_P2M = auto()
    PV_MEMORY = auto()
    PV_STATE = auto()
    DONE = auto()


def _row(state: ImageState, *classes: type[Value | PageData]) -> dict[int, Enum]:
    return {cls.TYPE: state for cls in classes}


ORDER: dict[Enum, dict[int, Enum]] = {
    ImageState.HVM_STATIC: _row(ImageState.HVM_STATIC, *POLICIES)
    | _row(ImageState.HVM_MEMORY, StaticDataEnd),
    ImageState.HVM_MEMORY: _row(ImageState.HVM_MEMORY, PageData, Verify, X86TscInfo, Checkpoint)
    | _row(ImageState.HVM_STATE, *HVM_STATE)
    | _row(ImageState.DONE, End),
    ImageState.HVM_STATE: _row(ImageState.HVM_STATE, X86TscInfo, *HVM_STATE)
    | _row(ImageState.HVM_MEMORY, Checkpoint)
    | _row(ImageState.DONE, End),
    ImageState.PV_START: _row(ImageState.PV_STATIC, X86PvInfo),
    ImageState.PV_STATIC: _row(ImageState.PV_STATIC, *POLICIES)
    | _row(ImageState.PV_P2M, StaticDataEnd),
    ImageState.PV_START_V2: _row(ImageState.PV_P2M, X86PvInfo),
    ImageState.PV_P2M: _row(ImageState.PV_MEMORY, X86PvP2mFrames),
    ImageState.PV_MEMORY: _row(
        ImageState.PV_MEMORY, PageData, Verify, X86PvP2mFrames, X86TscInfo, Checkpoint
    )
    | _row(ImageState.PV_STATE, *PV_STATE)
    | _row(ImageState.DONE, End),
    ImageState.PV_STATE: _row(ImageState.PV_STATE, X86TscInfo, *PV_STATE)
    | _row(ImageState.PV_MEMORY, Checkpoint)
    | _row(ImageState.DONE, End),
}
"""The legal orders; TOOLSTACK and CHECKPOINT_DIRTY_PFN_LIST are in none."""

START = {
    (2, X86_HVM): ImageState.HVM_MEMORY,
    (3, X86_HVM): ImageState.HVM_STATIC,
    (2, X86_PV): ImageState.PV_START_V2,
    (3, X86_PV): ImageState.PV_START,
}

ONCE = frozenset(cls.TYPE for cls in (*POLICIES, *HVM_STATE, *PV_STATE, X86TscInfo))
"""What may be only once in an image or a checkpoint (for each vcpu, where it has one)."""


class Check:
    """The check of reader and writer: the order of records, and which may be there only once."""

    def __init__(self, version: int, guest: int, *, converted: bool) -> None:
        self._order = Order(LAYER, ORDER, NAMES, START[version, guest])
        self._converted = converted
        self._seen: set[tuple[int, int]] = set()

    @property
    def done(self) -> bool:
        """Whether END has passed."""
        return self._order.state is ImageState.DONE

    def order(self, kind: int, offset: int) -> None:
        """Raise `BadRecord` or `Unsupported` if a record of this type may not be here."""
        if kind not in NAMES and not kind & OPTIONAL:
            raise Unsupported(f"{LAYER} record", offset, "a type that is known", f"{kind:#x}")
        if kind in NAMES or self.done:
            self._order.accept(kind, offset)

    def once(self, what: Value | PageData | SkippedRecord, offset: int) -> None:
        """Raise `BadRecord` for the second of its kind."""
        if what.kind == Checkpoint.TYPE:
            self._seen.clear()
        if what.kind not in ONCE or (self._converted and what.kind == HvmParams.TYPE):
            return
        key = (what.kind, what.vcpu if isinstance(what, X86PvVcpu) else 0)
        if key in self._seen:
            raise BadRecord(f"{LAYER} {what.NAME}", offset, "only one of them", "another")
        self._seen.add(key)
