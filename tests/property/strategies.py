"""Values and whole streams for tests: fixed samples, and hypothesis strategies."""

import io

from hypothesis import strategies as st

from xenqemu.errors import FormatError
from xenqemu.formats.stream import hvm_context as hvm
from xenqemu.formats.stream import libxc, libxl, xl
from xenqemu.formats.stream import libxc_pv_records as pv
from xenqemu.formats.stream import libxc_records as records
from xenqemu.formats.stream.page_data import PAGE_SIZE, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)

PAGE = bytes(range(256)) * 16
TSC = records.X86TscInfo(0, 2596137, 41074017717, 1)
PARAMS = records.HvmParams({1: 0xFEFFC, 17: 0xFEFFF})
CPUID = records.X86CpuidPolicy((records.CpuidLeaf(0, 0xFFFFFFFF, 13, 2, 3, 4),))
MSRS = records.X86MsrPolicy((records.MsrEntry(0xCE, 0, 0x80000000),))
OPTIONAL = records.OptionalRecord(0x80000123, b"anything")
DOMAIN = libxc.DomainHeader(libxc.X86_HVM, 4, 17)
PV_DOMAIN = libxc.DomainHeader(libxc.X86_PV, 4, 17)
PV_INFO = pv.X86PvInfo(8, 4)
P2M = pv.X86PvP2mFrames(0, 511, bytes(8))
BASIC = pv.X86PvVcpuBasic(0, bytes(0x1430))
SHARED = pv.SharedInfo(PAGE)
EMULATOR = libxl.EmulatorContext(2, 0, b"QEVM and so on")
DEVICES = (EMULATOR, libxl.End())
XENSTORE = libxl.EmulatorXenstoreData(2, 0, (("physmap/f0000000/name", "vga.vram"), ("a", "")))
CONFIG = '{"c_info": {"type": "hvm", "name": "sample"}}'

SAVE_HEADER = hvm.SAVE_HEADER.pack(hvm.MAGIC, hvm.VERSION, 2**64 - 1, 0x60FB1, 2596137)
CPU_BYTES = bytearray(1032)
hvm.U64.pack_into(CPU_BYTES, hvm.RIP_AT, 0xFFF0)
hvm.U64.pack_into(CPU_BYTES, hvm.CR3_AT, 0x1000)
hvm.U64.pack_into(CPU_BYTES, hvm.EFER_AT, 0x500)
SAVED = hvm.SavedContext(
    (
        hvm.SaveRecord(hvm.HEADER, 0, SAVE_HEADER),
        hvm.SaveRecord(hvm.CPU, 0, bytes(CPU_BYTES)),
        hvm.SaveRecord(hvm.LAPIC, 0, bytes(24)),
        hvm.SaveRecord(hvm.LAPIC, 1, bytes(24)),
    )
)
CONTEXT = records.HvmContext(SAVED.pack())

PAGES = (PageData.of([5, 6, 9]), [PAGE * 3])
MIXED = (PageData.of([1, libxc.XALLOC | 2, 3, libxc.XTAB | 4, libxc.BROKEN | 5]), [PAGE, PAGE])
ONE = (PageData.of([5]), [PAGE])

HVM_STEPS = (CPUID, MSRS, libxc.StaticDataEnd(), PAGES, MIXED, TSC, CONTEXT, PARAMS, libxc.End())
SMALL_STEPS = (CPUID, MSRS, libxc.StaticDataEnd(), ONE, TSC, CONTEXT, PARAMS, libxc.End())
LAB_STEPS = (libxc.StaticDataEnd(), ONE, libxc.End())
VCPU = (
    BASIC,
    pv.X86PvVcpuExtended(0, bytes(128)),
    pv.X86PvVcpuXsave(0, bytes(592)),
    pv.X86PvVcpuMsrs(0, bytes(32)),
)
PV_MEMORY = (P2M, (PageData.of([7, 0x9 << 60 | 8]), [PAGE, PAGE]))
PV_STEPS = (PV_INFO, CPUID, libxc.StaticDataEnd(), *PV_MEMORY, TSC, SHARED, *VCPU, libxc.End())
PV_SMALL_STEPS = (PV_INFO, CPUID, libxc.StaticDataEnd(), P2M, ONE, VCPU[1], libxc.End())
PV_STEPS_V2 = (PV_INFO, *PV_MEMORY, TSC, SHARED, *VCPU, libxc.End())


def outcome(read, data):
    """Return the result of `read` of `data`, or the `FormatError` it raises."""
    try:
        return read(data)
    except FormatError as error:
        return error


def put(writer, steps):
    """Write each step with a `libxc.ImageWriter`: a value, or (PageData, buffers)."""
    for step in steps:
        if isinstance(step, tuple):
            writer.pages(*step)
        else:
            writer.write(step)


def image(steps=HVM_STEPS, domain=DOMAIN, version=3) -> bytes:
    """Return a bare libxc image."""
    out = io.BytesIO()
    put(libxc.ImageWriter(Sink(out), domain, version), steps)
    return out.getvalue()


def stream(steps=HVM_STEPS, after=DEVICES, *, domain=DOMAIN) -> bytes:
    """Return a libxl stream that is not checkpointed."""
    out = io.BytesIO()
    sink = Sink(out)
    writer = libxl.StreamWriter(sink)
    writer.write(libxl.LibxcContext())
    put(libxc.ImageWriter(sink, domain), steps)
    writer.image_written()
    for value in after:
        writer.write(value)
    return out.getvalue()


def save(steps=HVM_STEPS, after=DEVICES, tail=b"") -> bytes:
    """Return an xl save file."""
    out = io.BytesIO()
    xl.write(Sink(out), xl.XlHeader.of_json(CONFIG, tail))
    return out.getvalue() + stream(steps, after)


def checkpointed(count, *, colo=False) -> bytes:
    """Return a libxl stream of `count` checkpoints."""
    out = io.BytesIO()
    sink = Sink(out)
    writer = libxl.StreamWriter(sink)
    writer.write(libxl.LibxcContext())
    pages = libxc.ImageWriter(sink, DOMAIN)
    put(pages, [libxc.StaticDataEnd()])
    for number in range(count):
        if colo and number:
            writer.write(libxl.CheckpointState(libxl.CheckpointState.NEW))
        put(pages, [ONE, TSC, CONTEXT, PARAMS, libxc.Checkpoint()])
        writer.image_written(checkpoint=True)
        writer.write(EMULATOR)
        writer.write(libxl.CheckpointEnd())
    return out.getvalue()


class Dribble(io.RawIOBase):
    """A pipe that returns at most `most` bytes a read."""

    def __init__(self, data: bytes, most: int = 1) -> None:
        self._left = memoryview(data)
        self._most = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        size = min(len(buffer), self._most, len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def dribbled(data: bytes, most: int = 1) -> Source:
    return Source(Dribble(data, most))


entries = st.lists(
    st.tuples(st.sampled_from([0, 1, 4, 9, 12, 13, 14, 15]), st.integers(0, 2**52 - 1)).map(
        lambda pair: pair[0] << 60 | pair[1]
    ),
    min_size=1,
    max_size=20,
)


@st.composite
def pages(draw):
    """A PAGE_DATA of any legal entries, with its pages."""
    value = PageData.of(draw(entries))
    return value, [bytes(PAGE_SIZE)] * (value.data_size // PAGE_SIZE)


tsc_info = st.builds(records.X86TscInfo, U32, U32, U64, U32)
hvm_params = st.dictionaries(U64, U64, max_size=8).map(records.HvmParams)
hvm_context = st.binary(min_size=1, max_size=50).map(records.HvmContext)
cpuid_policy = st.lists(
    st.builds(records.CpuidLeaf, U32, U32, U32, U32, U32, U32), min_size=1, max_size=4
).map(lambda leaves: records.X86CpuidPolicy(tuple(leaves)))
msr_policy = st.lists(
    st.builds(records.MsrEntry, U32, st.just(0), U64), min_size=1, max_size=4
).map(lambda msrs: records.X86MsrPolicy(tuple(msrs)))
optional = st.builds(records.OptionalRecord, st.integers(2**31, 2**32 - 1), st.binary(max_size=20))


@st.composite
def hvm_steps(draw):
    """Any legal order of records of an HVM image."""
    policies = draw(st.permutations(draw(st.tuples(cpuid_policy, msr_policy))))
    memory = draw(st.lists(st.one_of(pages(), optional), max_size=4))
    state = draw(st.permutations(draw(st.tuples(tsc_info, hvm_context, hvm_params))))
    kept = draw(st.integers(0, 3))
    return (*policies, libxc.StaticDataEnd(), *memory, *state[:kept], libxc.End())


text = st.text(st.characters(min_codepoint=1, codec="utf-8"), max_size=12)
keys = text.filter(lambda key: key and not key.startswith("/"))
xenstore_data = st.builds(
    libxl.EmulatorXenstoreData,
    st.integers(0, 2),
    U32,
    st.lists(st.tuples(keys, text), max_size=4).map(tuple),
)
emulator_context = st.builds(libxl.EmulatorContext, st.integers(0, 2), U32, st.binary(max_size=64))
devices = st.one_of(
    st.just(()),
    st.tuples(emulator_context),
    st.tuples(xenstore_data, emulator_context),
).map(lambda values: (*values, libxl.End()))
