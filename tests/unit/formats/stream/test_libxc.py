"""The libxc image: every record both ways, both versions and kinds of guest, order, damage."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import strategies as made
from tests.property.strategies import CONTEXT, CPUID, DOMAIN, MSRS, ONE, PARAMS, PV_DOMAIN, TSC
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated, Unsupported
from xenqemu.formats.stream import framing, libxc, value
from xenqemu.formats.stream import libxc_pv_records as pv
from xenqemu.formats.stream import libxc_records as records
from xenqemu.formats.stream.libxc_order import RECORDS
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

PV_OLD = libxc.DomainHeader(libxc.X86_PV, 4, 13)
CONVERTED = libxc.DomainHeader(libxc.X86_HVM, 0, 1)


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


BODIES = [
    (records.End(), 0x00, b""),
    (pv.X86PvInfo(8, 4), 0x02, bytes([8, 4, 0, 0, 0, 0, 0, 0])),
    (pv.X86PvInfo(4, 3), 0x02, bytes([4, 3, 0, 0, 0, 0, 0, 0])),
    (pv.X86PvP2mFrames(0, 511, b"8 bytes."), 0x03, u32(0, 511) + b"8 bytes."),
    (pv.X86PvP2mFrames(511, 512, bytes(16)), 0x03, u32(511, 512) + bytes(16)),
    (pv.X86PvP2mFrames(0, 1023, bytes(8)), 0x03, u32(0, 1023) + bytes(8)),
    (pv.X86PvVcpuBasic(3, bytes(0x1430)), 0x04, u32(3, 0) + bytes(0x1430)),
    (pv.X86PvVcpuBasic(3, bytes(0xAF0)), 0x04, u32(3, 0) + bytes(0xAF0)),
    (pv.X86PvVcpuExtended(1, bytes(128)), 0x05, u32(1, 0) + bytes(128)),
    (pv.X86PvVcpuXsave(1, bytes(600)), 0x06, u32(1, 0) + bytes(600)),
    (pv.SharedInfo(made.PAGE), 0x07, made.PAGE),
    (TSC, 0x08, struct.pack("<IIQII", 0, 2596137, 41074017717, 1, 0)),
    (records.HvmContext(b"blob"), 0x09, b"blob"),
    (records.HvmParams({}), 0x0A, u32(0, 0)),
    (records.HvmParams({1: 2}), 0x0A, u32(1, 0, 1, 0, 2, 0)),
    (records.Toolstack(b"blob"), 0x0B, b"blob"),
    (pv.X86PvVcpuMsrs(8191, b""), 0x0C, u32(8191, 0)),
    (pv.X86PvVcpuMsrs(0, bytes(32)), 0x0C, u32(0, 0) + bytes(32)),
    (records.Verify(), 0x0D, b""),
    (records.Checkpoint(), 0x0E, b""),
    (records.CheckpointDirtyPfnList(bytes(16)), 0x0F, bytes(16)),
    (records.StaticDataEnd(), 0x10, b""),
    (CPUID, 0x11, u32(0, 0xFFFFFFFF, 13, 2, 3, 4)),
    (MSRS, 0x12, u32(0xCE, 0, 0x80000000, 0)),
    (records.OptionalRecord(0x80000001, b"?"), 0x80000001, b"?"),
]


def parse(kind: int, body: bytes) -> value.Value:
    header = framing.RecordHeader(kind, len(body), 0)
    source = Source.of(body + bytes(header.padding))
    return value.read(source, header, "libxc", RECORDS.get(kind, records.OptionalRecord))


@pytest.mark.parametrize(("what", "kind", "body"), BODIES)
def test_every_body_both_ways(what, kind, body):
    assert what.kind == kind
    assert value.checked(what, "libxc", 0) == body
    assert parse(kind, body) == what


def test_every_type_is_in_the_table():
    assert {kind for _, kind, _ in BODIES} == {*RECORDS, 0x80000001}


BAD_BODIES = [
    (0x00, b"x", 0),
    (0x10, b"12345678", 0),
    (0x02, bytes([8, 3]) + bytes(6), 0),
    (0x02, bytes([8, 4, 1]) + bytes(5), 2),
    (0x02, bytes([8, 4]) + bytes(7), 0),
    (0x03, u32(0), 0),
    (0x03, u32(2, 1, 0, 0), 4),
    (0x03, u32(0, 511), 8),
    (0x03, u32(0, 511) + bytes(24), 8),
    (0x04, u32(0), 0),
    (0x04, u32(8192, 0) + bytes(0x1430), 0),
    (0x04, u32(0, 1) + bytes(0x1430), 4),
    (0x04, u32(0, 0) + bytes(0x1431), 8),
    (0x05, u32(0, 0) + bytes(129), 8),
    (0x06, u32(0, 0) + bytes(15), 8),
    (0x0C, u32(0, 0) + bytes(15), 8),
    (0x07, made.PAGE[1:], 0),
    (0x08, bytes(23), 0),
    (0x08, bytes(20) + u32(1), 20),
    (0x09, b"", 0),
    (0x0A, u32(0), 0),
    (0x0A, u32(0, 1), 4),
    (0x0A, u32(2, 0, 1, 0, 2, 0), 0),
    (0x0A, u32(0xFFFFFFFF, 0), 0),
    (0x0A, u32(2, 0, 1, 0, 2, 0, 1, 0, 3, 0), 0),
    (0x0F, bytes(12), 0),
    (0x11, b"", 0),
    (0x11, bytes(25), 0),
    (0x12, bytes(8), 0),
    (0x12, bytes(16) + u32(1, 1, 0, 0), 20),
]


@pytest.mark.parametrize(("kind", "body", "offset"), BAD_BODIES)
def test_bodies_that_are_refused(kind, body, offset):
    with pytest.raises(BadRecord) as caught:
        parse(kind, body)
    assert caught.value.offset == offset
    assert caught.value.record == f"libxc {RECORDS[kind].NAME}"


def test_an_optional_value_needs_an_optional_type():
    with pytest.raises(BadRecord, match="a type with bit 31, got 0x13"):
        value.checked(records.OptionalRecord(0x13, b""), "libxc", 0)


@pytest.mark.parametrize(
    "what", [records.X86TscInfo(-1, 0, 0, 0), records.HvmParams({1: 2**64}), pv.X86PvInfo(8, 300)]
)
def test_fields_that_do_not_fit(what):
    with pytest.raises(BadRecord, match="fields that fit their places"):
        value.checked(what, "libxc", 0)


def values(data: bytes) -> list[object]:
    return [step.value for step in libxc.read(Source.of(data))]


def plain(steps) -> list[object]:
    return [step[0] if isinstance(step, tuple) else step for step in steps]


IMAGES = [
    ("hvm 3", made.HVM_STEPS, DOMAIN, 3),
    ("lab", made.LAB_STEPS, DOMAIN, 3),
    ("empty", (libxc.StaticDataEnd(), libxc.End()), DOMAIN, 3),
    ("hvm 2", (ONE, TSC, CONTEXT, PARAMS, libxc.End()), libxc.DomainHeader(2, 4, 13), 2),
    ("order of the specification", (ONE, TSC, PARAMS, CONTEXT, libxc.End()), DOMAIN, 2),
    ("converted", (ONE, TSC, ONE, PARAMS, PARAMS, CONTEXT, libxc.End()), CONVERTED, 2),
    ("verify", (ONE, records.Verify(), ONE, TSC, libxc.End()), DOMAIN, 2),
    ("checkpoint", (ONE, CONTEXT, libxc.Checkpoint()), DOMAIN, 2),
    ("pv 3", made.PV_STEPS, PV_DOMAIN, 3),
    ("pv 2", made.PV_STEPS_V2, PV_OLD, 2),
    ("optional first", (made.OPTIONAL, *made.HVM_STEPS), DOMAIN, 3),
    ("optional last", (*made.LAB_STEPS[:-1], made.OPTIONAL, libxc.End()), DOMAIN, 3),
]


@pytest.mark.parametrize(
    ("steps", "domain", "version"), [each[1:] for each in IMAGES], ids=[each[0] for each in IMAGES]
)
def test_images_both_ways(steps, domain, version):
    data = made.image(steps, domain, version)
    for source in (Source.of(data + b"next"), made.dribbled(data + b"next", 5)):
        image = libxc.Image()
        found = list(image.part(source))
        assert [step.value for step in found[2:]] == plain(steps)
        assert source.exact(4, "what follows") == b"next"
        assert (image.header, image.domain) == (libxc.ImageHeader(version), domain)
        assert image.present == {each.NAME for each in plain(steps)} - {"OPTIONAL"}
        ends = [step.offset + step.size for step in found]
        assert [step.offset for step in found] == [0, *ends[:-1]]
        assert ends[-1] == len(data)


def test_headers_byte_by_byte():
    data = made.image()
    assert data[:24].hex() == "ffffffffffffffff58454e46" + "00000003" + "0000" * 4
    assert data[24:40].hex() == "020000000c0000000400000011000000"


HEADERS = [
    (0, 0xFE, BadRecord, 0),
    (8, 0x59, BadRecord, 8),
    (15, 4, Unsupported, 12),
    (15, 1, Unsupported, 12),
    (17, 1, Unsupported, 16),
    (17, 2, BadRecord, 16),
    (16, 1, BadRecord, 16),
    (19, 1, BadRecord, 18),
    (23, 1, BadRecord, 18),
    (24, 3, Unsupported, 24),
    (28, 13, BadRecord, 28),
    (30, 1, BadRecord, 30),
]


@pytest.mark.parametrize(("at", "byte", "error", "offset"), HEADERS)
def test_headers_that_are_refused(at, byte, error, offset):
    data = bytearray(made.image(made.LAB_STEPS))
    data[at] = byte
    with pytest.raises(error) as caught:
        values(bytes(data))
    assert type(caught.value) is error
    assert caught.value.offset == offset


def test_a_writer_of_no_such_version_or_guest():
    for domain, version in ((DOMAIN, 4), (DOMAIN, -1), (libxc.DomainHeader(3, 4, 17), 3)):
        out = io.BytesIO()
        with pytest.raises(FormatError):
            libxc.ImageWriter(Sink(out), domain, version)
        assert out.getvalue() == b""


STATIC_END = libxc.StaticDataEnd()
ORDERS = [
    (DOMAIN, 3, [], ONE, "X86_CPUID_POLICY, X86_MSR_POLICY, STATIC_DATA_END"),
    (DOMAIN, 3, [], libxc.End(), "X86_CPUID_POLICY, X86_MSR_POLICY, STATIC_DATA_END"),
    (DOMAIN, 3, [STATIC_END], STATIC_END, "PAGE_DATA, VERIFY, X86_TSC_INFO, CHECKPOINT"),
    (DOMAIN, 3, [STATIC_END], CPUID, "PAGE_DATA"),
    (DOMAIN, 2, [], CPUID, "PAGE_DATA"),
    (DOMAIN, 2, [], STATIC_END, "PAGE_DATA"),
    (DOMAIN, 2, [CONTEXT], ONE, "X86_TSC_INFO, HVM_CONTEXT, HVM_PARAMS, CHECKPOINT, END"),
    (DOMAIN, 2, [], made.PV_INFO, "PAGE_DATA"),
    (DOMAIN, 2, [], made.SHARED, "PAGE_DATA"),
    (DOMAIN, 2, [], made.BASIC, "PAGE_DATA"),
    (DOMAIN, 2, [], made.P2M, "PAGE_DATA"),
    (DOMAIN, 2, [], records.Toolstack(b""), "PAGE_DATA"),
    (DOMAIN, 2, [], records.CheckpointDirtyPfnList(b""), "PAGE_DATA"),
    (DOMAIN, 2, [libxc.End()], libxc.End(), "no record"),
    (DOMAIN, 2, [libxc.End()], made.OPTIONAL, "no record"),
    (PV_DOMAIN, 3, [], CPUID, "X86_PV_INFO"),
    (PV_DOMAIN, 3, [made.PV_INFO, STATIC_END], ONE, "X86_PV_P2M_FRAMES"),
    (PV_DOMAIN, 2, [], made.P2M, "X86_PV_INFO"),
    (PV_DOMAIN, 2, [made.PV_INFO, made.P2M], CONTEXT, "PAGE_DATA"),
    (PV_DOMAIN, 2, [made.PV_INFO, made.P2M], PARAMS, "PAGE_DATA"),
    (PV_DOMAIN, 2, [made.PV_INFO, made.P2M, made.BASIC], ONE, "X86_TSC_INFO, SHARED_INFO"),
    (DOMAIN, 3, [CPUID], CPUID, "only one of them"),
    (DOMAIN, 2, [TSC], TSC, "only one of them"),
    (DOMAIN, 2, [CONTEXT], CONTEXT, "only one of them"),
    (DOMAIN, 2, [PARAMS], PARAMS, "only one of them"),
    (PV_DOMAIN, 2, [made.PV_INFO, made.P2M, made.SHARED], made.SHARED, "only one of them"),
    (PV_DOMAIN, 2, [made.PV_INFO, made.P2M, made.BASIC], made.BASIC, "only one of them"),
]


@pytest.mark.parametrize(("domain", "version", "before", "illegal", "expected"), ORDERS)
def test_orders_that_are_refused_by_reader_and_writer(domain, version, before, illegal, expected):
    out = io.BytesIO()
    sink = Sink(out)
    writer = libxc.ImageWriter(sink, domain, version)
    made.put(writer, before)
    where = len(out.getvalue())
    with pytest.raises(BadRecord) as caught:
        made.put(writer, [illegal])
    assert expected in caught.value.expected
    assert len(out.getvalue()) == where
    if isinstance(before[-1] if before else None, libxc.End):
        return  # a reader does not look behind END
    if isinstance(illegal, tuple):
        libxc.page_data.write(sink, *illegal)
    else:
        framing.write_record(sink, illegal.kind, illegal.pack())
    with pytest.raises(BadRecord) as caught:
        values(out.getvalue())
    assert caught.value.offset == where
    assert expected in caught.value.expected


def test_a_part_after_end_is_refused():
    image = libxc.Image()
    data = made.image(made.LAB_STEPS)
    source = Source.of(data + data[-8:])
    assert isinstance(list(image.part(source))[-1].value, libxc.End)
    with pytest.raises(BadRecord, match="no record"):
        list(image.part(source))


def test_two_vcpus_may_have_one_each():
    steps = (made.PV_INFO, *made.PV_MEMORY, made.BASIC, pv.X86PvVcpuBasic(1, b""), libxc.End())
    assert values(made.image(steps, PV_OLD, 2))[2:] == plain(steps)


def test_a_checkpoint_begins_anew():
    steps = (ONE, TSC, CONTEXT, PARAMS, libxc.Checkpoint())
    source = Source.of(made.image((*steps, *steps, libxc.End()), DOMAIN, 2))
    image = libxc.Image()
    assert [each.value for each in image.part(source)][2:] == plain(steps)
    assert [each.value for each in image.part(source)] == plain(steps)
    assert [each.value for each in image.part(source)] == [libxc.End()]
    assert source.at_end()


def test_types_that_are_not_known():
    head = made.image((), DOMAIN, 2)
    with pytest.raises(Unsupported, match="a type that is known, got 0x13") as caught:
        values(head + u32(0x13, 0))
    assert caught.value.offset == 40
    with pytest.raises(Unsupported):
        values(head + u32(0x7FFFFFFF, 0xFFFFFFFF))
    found = values(head + u32(0xFFFFFFFF, 1) + b"!" + bytes(7) + u32(0, 0))
    assert found[2:] == [records.OptionalRecord(0xFFFFFFFF, b"!"), libxc.End()]


@pytest.mark.parametrize("kind", [*RECORDS, 1, 0x80000000])
def test_a_length_of_4_gib_is_refused_before_anything_is_read(kind):
    header = framing.RecordHeader(kind, 0xFFFFFFFF, 0)
    source = made.dribbled(bytes(100))
    with pytest.raises(TooBig):
        libxc.Image().body(source, header)
    assert source.offset == 0


def test_padding_that_is_not_zero():
    odd = records.OptionalRecord(0x80000001, b"odd")
    data = bytearray(made.image((odd, libxc.End()), DOMAIN, 2))
    data[-9] = 1
    with pytest.raises(BadRecord, match="libxc OPTIONAL.*zero padding"):
        values(bytes(data))


@pytest.mark.parametrize(
    ("steps", "domain"), [(made.SMALL_STEPS, DOMAIN), (made.PV_SMALL_STEPS, PV_DOMAIN)]
)
def test_cut_at_every_offset(steps, domain):
    whole = made.image(steps, domain)
    for size in range(len(whole)):
        with pytest.raises(Truncated) as caught:
            values(whole[:size])
        assert caught.value.offset <= size


def test_on_pages_takes_the_pages():
    got = []

    def take(pages, source):
        got.append((list(pages.runs()), source.exact(pages.data_size, "pages")))

    for source in (Source.of(made.image()), made.dribbled(made.image(), 999)):
        got.clear()
        list(libxc.read(source, take))
        assert [data for _, data in got] == [made.PAGE * 3, made.PAGE * 2]
        assert [run.pages for run in got[0][0]] == [2, 1]


@settings(deadline=None)
@given(made.hvm_steps())
def test_any_legal_image(steps):
    assert values(made.image(steps))[2:] == plain(steps)


SMALL = made.image(made.SMALL_STEPS)


@settings(deadline=None)
@given(st.integers(0, len(SMALL) - 1), st.integers(0, 255))
def test_any_changed_byte(at, byte):
    data = bytearray(SMALL)
    data[at] = byte
    found = made.outcome(values, bytes(data))
    if isinstance(found, FormatError):
        assert found.offset <= len(data)
    else:
        assert isinstance(found[-1], (libxc.End, libxc.Checkpoint))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_records(data):
    head = made.image((), DOMAIN, 2)
    found = made.outcome(values, head + data)
    if isinstance(found, FormatError):
        assert 40 <= found.offset <= len(head + data)
    else:
        assert isinstance(found[-1], (libxc.End, libxc.Checkpoint))
