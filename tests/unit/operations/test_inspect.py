"""What a save file holds, in numbers and words, whatever layer it begins at."""

import io

import pytest

from tests.doubles.in_memory.save_files import (
    DEVICES,
    STEPS,
    checkpointed,
    config,
    device_state,
    save_file,
)
from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.errors import Truncated, Unsupported
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxl, xl
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.page_data import BROKEN, XALLOC, XTAB, PageData
from xenqemu.formats.stream.source import Source
from xenqemu.operations.inspect import PFNS_BELOW_4G, Pages, RecordRun, read_contents

HEADER = xl.XlHeader.of_json(config().dump().decode()).pack()


def read(data: bytes):
    return read_contents(Source(io.BytesIO(data)))


def places(found):
    """Return where entries begin and end: they are without gaps if sorted."""
    return [(run.offset, run.offset + run.size) for run in found.records]


def test_all_of_a_record():
    data = save_file(after=(made.XENSTORE, *DEVICES)) + b"behind"
    found = read(data)
    names = [(run.layer, run.name, run.text) for run in found.records]
    assert names == [
        ("xl", "header", ""),
        ("libxl", "header", ""),
        ("libxl", "LIBXC_CONTEXT", ""),
        ("libxc", "image header", "version 3"),
        ("libxc", "domain header", "x86 HVM, Xen 4.17"),
        ("libxc", "X86_CPUID_POLICY", "1 leaves"),
        ("libxc", "X86_MSR_POLICY", ""),
        ("libxc", "STATIC_DATA_END", ""),
        ("libxc", "PAGE_DATA", ""),
        ("libxc", "X86_TSC_INFO", "mode 0, 2596137 kHz"),
        ("libxc", "HVM_CONTEXT", f"{len(made.CONTEXT.data)} bytes of Xen's state"),
        ("libxc", "HVM_PARAMS", "2 parameters"),
        ("libxc", "END", ""),
        ("libxl", "EMULATOR_XENSTORE_DATA", "2 keys"),
        ("libxl", "EMULATOR_CONTEXT", f"{len(device_state())} bytes of device state"),
        ("libxl", "END", ""),
        ("", "bytes after END", ""),
    ]
    ends = [end for _, end in places(found)]
    assert [start for start, _ in places(found)] == [0, *ends[:-1]]
    assert found.records[0].size == len(HEADER)
    assert found.records[8].size == 8 + 8 + 3 * 8 + 3 * 4096
    assert (found.kind, found.size, found.trailing) == (Layer.XL, len(data) - 6, 6)
    assert found.config == config()
    assert (found.image.version, found.domain) == (3, made.DOMAIN)
    assert found.present == {run[1] for run in names[5:13]}
    assert found.params == {1: 5, 17: 6}
    assert (found.context.vcpus, list(found.context.cpus)) == (2, [0])
    assert [section.idstr for section in found.devices.sections] == ["timer"]
    assert found.has_device_state
    assert found.checkpoints == 0


def test_pv_guest():
    found = read(save_file(config("pv"), made.PV_STEPS, DEVICES[1:], made.PV_DOMAIN))
    assert found.records[4].text == "x86 PV, Xen 4.17"
    assert (found.context, found.params, found.devices) == (None, {}, None)
    assert not found.has_device_state
    assert found.pages.data == 2


def test_neighbouring_pages_are_one_entry():
    single = (PageData.of([5]), [made.PAGE])
    steps = (*STEPS[:3], single, single, made.OPTIONAL, made.PAGES, *STEPS[4:])
    found = read(made.image(steps))
    merged = [(run.name, run.count, run.size) for run in found.records if "P" in run.name[:2]]
    assert merged == [
        ("PAGE_DATA", 2, 2 * (8 + 16 + 4096)),
        ("OPTIONAL", 1, 8 + 8),
        ("PAGE_DATA", 1, 8 + 8 + 3 * (8 + 4096)),
    ]


@pytest.mark.parametrize(
    ("entries", "counts", "missing"),
    [
        ([5, 6, 9], (3, 0, 0), [4, 7, 8, 10]),
        ([XALLOC | 5, XALLOC | 6, 7], (1, 2, 0), [4, 8]),
        ([XTAB | 5, BROKEN | 6], (0, 0, 2), [5, 6]),
        ([9 << 60 | 5, 1 << 60 | 6], (2, 0, 0), [4, 7]),
        ([PFNS_BELOW_4G - 1, PFNS_BELOW_4G], (2, 0, 0), [PFNS_BELOW_4G - 2]),
        ([PFNS_BELOW_4G + 5], (1, 0, 0), [5, PFNS_BELOW_4G - 1]),
    ],
)
def test_counting_pages(entries, counts, missing):
    pages = Pages()
    pages.add(PageData.of(entries))
    assert (pages.data, pages.zero, pages.other) == counts
    low = {entry & (1 << 52) - 1 for entry in entries} - set(missing)
    assert [pfn for pfn in (*missing, *low) if pages.missing(pfn)] == missing
    assert len(pages.low) == PFNS_BELOW_4G  # whatever a record says


def test_pages_above_4_gib_are_not_watched():
    assert not Pages().missing(PFNS_BELOW_4G)
    assert Pages().missing(PFNS_BELOW_4G - 1)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (made.stream(STEPS, DEVICES), Layer.LIBXL),
        (made.image(STEPS), Layer.LIBXC),
    ],
)
def test_bare_streams(data, kind):
    found = read(data + bytes(3))
    assert (found.kind, found.size, found.trailing) == (kind, len(data), 3)
    assert found.config is None
    assert found.has_device_state == (kind is Layer.LIBXL)
    assert found.pages.data == 3
    assert found.records[-1] == RecordRun("", "bytes after END", len(data), 3)


@pytest.mark.parametrize("header", [b"", HEADER])
@pytest.mark.parametrize("count", [1, 3])
def test_checkpoints_are_counted(header, count):
    data = header + checkpointed(count)
    found = read(data)
    assert (found.checkpoints, found.size, found.trailing) == (count, len(data), 0)
    assert found.pages.data == 3 * count
    assert [run.name for run in found.records].count("CHECKPOINT_END") == count


def test_stream_cut_in_a_later_checkpoint():
    with pytest.raises(Truncated, match=r"\(after 2 whole checkpoints\)"):
        read(checkpointed(3)[:-1])


@pytest.mark.parametrize("behind", [b"", b"\0", b"QEVM"])
def test_device_state_alone(behind):
    data = device_state(tick=9)
    found = read(data + behind)
    assert (found.kind, found.size, found.trailing) == (Layer.DEVICE_STATE, len(data), len(behind))
    (section,) = found.devices.sections
    assert (section.idstr, section.offset, section.length) == ("timer", 8, 24)
    assert (found.records, found.domain, found.has_device_state) == ([], None, False)


def test_device_state_of_another_emulator_is_not_looked_into():
    found = read(save_file(after=(libxl.EmulatorContext(1, 0, b"\0" * 4), libxl.End())))
    assert found.has_device_state
    assert found.devices is None


def test_config_that_is_no_json():
    header = xl.XlHeader(xl.STREAM_V2, b'name = "old"\n').pack()
    found = read(header + made.stream(STEPS, DEVICES))
    assert (found.kind, found.config) == (Layer.XL, None)


def test_legacy_stream_is_refused():
    with pytest.raises(Unsupported, match="a legacy stream"):
        read(xl.XlHeader(xl.JSON, b"{}\0").pack() + bytes(100))


GOLDEN = {
    "hvm.save": (25145902, 0, 4092, 1040388, 1020, 21),
    "hvm-cfg.save": (25145764, 0, 4092, 1040388, 1020, 21),
    "hvm-xen4.20.save": (25145907, 0, 4092, 1040388, 1020, 21),
    "vga.save": (42455925, 0, 8268, 1036212, 1020, 29),
    "hvm-migrate.stream": (25162334, 44, 4096, 1040388, 1021, 21),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_what_stock_xl_wrote_is_outlined(name):
    found = read(save_files.unpacked(name))
    (pages,) = (run for run in found.records if run.name == "PAGE_DATA")
    counts = (found.pages.data, found.pages.other, pages.count, len(found.devices.sections))
    assert (found.size, found.trailing, *counts) == GOLDEN[name]
    assert found.pages.zero == 0
    assert all(isinstance(section, device_stream.Section) for section in found.devices.sections)
    assert set(found.context.cpus) == {0}
