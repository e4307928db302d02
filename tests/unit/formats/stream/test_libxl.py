"""The libxl stream: records, order, checkpoints, the hand-over to libxc and back."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property import strategies as made
from tests.property.strategies import DOMAIN, EMULATOR, XENSTORE
from xenqemu.errors import BadRecord, FormatError, TooBig, Truncated, Unsupported
from xenqemu.formats.stream import framing, libxc, libxl, value
from xenqemu.formats.stream.libxl import CheckpointEnd, CheckpointState, End, LibxcContext, Stream
from xenqemu.formats.stream.libxl_records import MAX_DEVICE_STATE, RECORDS
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source

EMULATOR_UNKNOWN = libxl.EmulatorContext(0, 0, b"")


def u32(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}I", *numbers)


BODIES = [
    (End(), 0, b""),
    (LibxcContext(), 1, b""),
    (libxl.EmulatorXenstoreData(1, 2, ()), 2, u32(1, 2)),
    (libxl.EmulatorXenstoreData(2, 0, (("a", "b"),)), 2, u32(2, 0) + b"a\0b\0"),
    (libxl.EmulatorXenstoreData(2, 0, (("a/\udcff", ""), ("c", "é"))), 2,
     u32(2, 0) + b"a/\xff\0\0c\0\xc3\xa9\0"),
    (EMULATOR_UNKNOWN, 3, u32(0, 0)),
    (libxl.EmulatorContext(2, 7, b"state"), 3, u32(2, 7) + b"state"),
    (CheckpointEnd(), 4, b""),
    (CheckpointState(CheckpointState.SVM_READY), 5, u32(2, 0)),
]  # fmt: skip


def parse(kind: int, body: bytes) -> value.Value:
    header = framing.RecordHeader(kind, len(body), 0)
    return value.read(Source.of(body + bytes(header.padding)), header, "libxl", RECORDS[kind])


@pytest.mark.parametrize(("what", "kind", "body"), BODIES)
def test_every_body_both_ways(what, kind, body):
    assert what.kind == kind
    assert value.checked(what, "libxl", 0) == body
    assert parse(kind, body) == what


def test_every_type_is_in_the_table():
    assert {kind for _, kind, _ in BODIES} == set(RECORDS)


BAD_BODIES = [
    (0, b"x", BadRecord, 0),
    (2, u32(0), BadRecord, 0),
    (2, u32(3, 0), Unsupported, 0),
    (2, u32(2, 0) + b"a\0b", BadRecord, 10),
    (2, u32(2, 0) + b"a\0", BadRecord, 8),
    (2, u32(2, 0) + b"\0b\0", BadRecord, 8),
    (2, u32(2, 0) + b"/a\0b\0", BadRecord, 8),
    (3, b"1234567", BadRecord, 0),
    (3, u32(0xFFFFFFFF, 0), Unsupported, 0),
    (5, b"", BadRecord, 0),
    (5, u32(4, 0), BadRecord, 0),
    (5, u32(0, 1), BadRecord, 4),
]


@pytest.mark.parametrize(("kind", "body", "error", "offset"), BAD_BODIES)
def test_bodies_that_are_refused(kind, body, error, offset):
    with pytest.raises(error) as caught:
        parse(kind, body)
    assert caught.value.offset == offset
    assert caught.value.record == f"libxl {RECORDS[kind].NAME}"


@pytest.mark.parametrize(
    "what",
    [
        libxl.EmulatorXenstoreData(2, 0, (("a\0b", "c"),)),
        libxl.EmulatorXenstoreData(2, 0, (("\ud800", "c"),)),
        libxl.EmulatorXenstoreData(2, 0, (("k", "v" * (1 << 20)),)),
        libxl.EmulatorContext(-1, 0, b""),
    ],
)
def test_values_that_cannot_be_written(what):
    with pytest.raises(FormatError):
        value.checked(what, "libxl", 0)


def steps(data: bytes) -> list[framing.Record]:
    return list(libxl.read(Source.of(data)))


def own(data: bytes) -> list[object]:
    return [step.value for step in steps(data) if step.layer == "libxl"][2:]


ENDS = [(End(),), (EMULATOR, End()), (XENSTORE, EMULATOR, End())]


@pytest.mark.parametrize("after", ENDS)
def test_streams_both_ways(after):
    data = made.stream(after=after)
    assert own(data + b"behind") == list(after)
    assert own(made.stream(made.PV_STEPS, after, domain=made.PV_DOMAIN)) == list(after)
    found = steps(data)
    assert found[0].value == libxl.StreamHeader(legacy=False)
    assert found[1].value == LibxcContext()
    ends = [step.offset + step.size for step in found]
    assert [step.offset for step in found] == [0, *ends[:-1]]
    assert ends[-1] == len(data)


def test_the_header_byte_by_byte():
    assert made.stream()[:24].hex() == "4c6962786c466d740000000200000000" + "0100000000000000"
    out = io.BytesIO()
    libxl.StreamWriter(Sink(out), legacy=True)
    assert out.getvalue()[12:].hex() == "00000002"
    assert next(libxl.read(Source.of(out.getvalue()))).value == libxl.StreamHeader(legacy=True)


HEADERS = [
    (0, 0x4D, BadRecord, 0),
    (11, 1, Unsupported, 8),
    (15, 1, Unsupported, 12),
    (15, 4, BadRecord, 12),
    (12, 0x80, BadRecord, 12),
]


@pytest.mark.parametrize(("at", "byte", "error", "offset"), HEADERS)
def test_headers_that_are_refused(at, byte, error, offset):
    data = bytearray(made.stream())
    data[at] = byte
    with pytest.raises(error) as caught:
        steps(bytes(data))
    assert type(caught.value) is error
    assert caught.value.offset == offset


BACK = "EMULATOR_XENSTORE_DATA, EMULATOR_CONTEXT, END"
ORDERS = [
    ([], End(), "one of: LIBXC_CONTEXT"),
    ([], EMULATOR, "one of: LIBXC_CONTEXT"),
    (["image"], LibxcContext(), BACK),
    (["image"], CheckpointEnd(), BACK),
    (["image"], CheckpointState(0), BACK),
    (["image", XENSTORE], End(), "one of: EMULATOR_CONTEXT"),
    (["image", XENSTORE], XENSTORE, "one of: EMULATOR_CONTEXT"),
    (["image", EMULATOR], EMULATOR, "one of: END"),
    (["image", EMULATOR], XENSTORE, "one of: END"),
    (["checkpoint"], End(), "EMULATOR_CONTEXT, CHECKPOINT_END"),
    (["checkpoint", EMULATOR], End(), "one of: CHECKPOINT_END"),
    (["checkpoint", XENSTORE], CheckpointEnd(), "one of: EMULATOR_CONTEXT"),
]


@pytest.mark.parametrize(("before", "illegal", "expected"), ORDERS)
def test_orders_that_are_refused_by_reader_and_writer(before, illegal, expected):
    out = io.BytesIO()
    sink = Sink(out)
    writer = libxl.StreamWriter(sink)
    for step in before:
        if isinstance(step, str):
            end = libxc.End() if step == "image" else libxc.Checkpoint()
            writer.write(LibxcContext())
            made.put(libxc.ImageWriter(sink, DOMAIN), [libxc.StaticDataEnd(), end])
            writer.image_written(checkpoint=step == "checkpoint")
        else:
            writer.write(step)
    where = sink.offset
    with pytest.raises(BadRecord) as caught:
        writer.write(illegal)
    assert expected in caught.value.expected
    assert sink.offset == where
    framing.write_record(sink, illegal.kind, illegal.pack())
    with pytest.raises(BadRecord) as caught:
        steps(out.getvalue())
    assert expected in caught.value.expected
    assert caught.value.offset == where


def test_an_image_may_be_written_only_where_one_belongs():
    writer = libxl.StreamWriter(Sink(io.BytesIO()))
    with pytest.raises(ValueError, match="no libxc image"):
        writer.image_written()


@pytest.mark.parametrize("kind", [6, 0x7FFFFFFF, 0x80000001])
def test_types_that_libxl_does_not_know(kind):
    data = made.stream(after=()) + u32(kind, 0)
    with pytest.raises(Unsupported, match=f"got {kind:#x}") as caught:
        steps(data)
    assert caught.value.offset == len(data) - 8


def test_device_state_is_bounded():
    data = made.stream(after=())
    source = made.dribbled(data + u32(3, MAX_DEVICE_STATE + 9), 50)
    with pytest.raises(TooBig, match=f"at most {MAX_DEVICE_STATE + 8}"):
        list(libxl.read(source))


def test_cut_at_every_offset():
    whole = made.stream(made.LAB_STEPS, (XENSTORE, EMULATOR, End()))
    for size in range(len(whole)):
        with pytest.raises(Truncated) as caught:
            steps(whole[:size])
        assert caught.value.offset <= size
        assert "checkpoint" not in str(caught.value)


@pytest.mark.parametrize("colo", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_checkpointed_streams_are_sound_and_told_as_such(count, colo):
    data = made.checkpointed(count, colo=colo)
    for source in (Source.of(data), made.dribbled(data, 11)):
        stream = Stream(source)
        found = [step.value for step in stream]
        assert stream.checkpoints == count
        assert found[-1] == CheckpointEnd()
        assert found.count(libxc.Checkpoint()) == count
        assert found.count(EMULATOR) == count
        assert found.count(libxc.ImageHeader(3)) == 1
        assert found.count(CheckpointState(0)) == (count - 1 if colo else 0)


@pytest.mark.parametrize("colo", [False, True])
def test_a_checkpointed_stream_cut_at_every_offset(colo):
    sizes = [len(made.checkpointed(count, colo=colo)) for count in (0, 1, 2)]
    whole = made.checkpointed(2, colo=colo)
    for size in [*range(0, sizes[1], 61), *range(sizes[1] - 20, sizes[2], 3)]:
        stream = Stream(Source.of(whole[:size]))
        if size == sizes[1]:
            assert list(stream)[-1].value == CheckpointEnd()
            continue
        with pytest.raises(Truncated) as caught:
            list(stream)
        assert stream.checkpoints == (size > sizes[1])
        assert ("after 1 whole checkpoints" in caught.value.got) == (size > sizes[1])
        assert caught.value.offset <= size


def test_a_checkpointed_image_may_come_to_an_end():
    out = io.BytesIO()
    sink = Sink(out)
    writer = libxl.StreamWriter(sink)
    writer.write(LibxcContext())
    image = libxc.ImageWriter(sink, DOMAIN)
    made.put(image, [libxc.StaticDataEnd(), libxc.Checkpoint()])
    writer.image_written(checkpoint=True)
    writer.write(CheckpointEnd())
    image.write(libxc.End())
    writer.image_written()
    writer.write(EMULATOR)
    writer.write(End())
    stream = Stream(Source.of(out.getvalue() + b"behind"))
    assert [step.value for step in stream][-2:] == [EMULATOR, End()]
    assert stream.checkpoints == 1


def test_another_reader_may_take_the_image():
    size = len(made.image())
    taken = []

    def take(source):
        taken.append(source.exact(size, "image"))
        return iter(())

    found = list(libxl.read(Source.of(made.stream()), take))
    assert taken == [made.image()]
    assert [step.value for step in found][1:] == [LibxcContext(), EMULATOR, End()]


@settings(deadline=None)
@given(made.devices)
def test_any_devices(after):
    assert own(made.stream(made.LAB_STEPS, after)) == list(after)


SMALL = made.stream(made.LAB_STEPS, (XENSTORE, EMULATOR, End()))
SMALL_CHECKPOINTS = made.checkpointed(2)


@settings(deadline=None)
@given(st.sampled_from([SMALL, SMALL_CHECKPOINTS]), st.data())
def test_any_changed_byte(whole, draw):
    data = bytearray(whole)
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    found = made.outcome(steps, bytes(data))
    if isinstance(found, FormatError):
        assert found.offset <= len(data)
    else:
        assert found[-1].value in {End(), CheckpointEnd()}
