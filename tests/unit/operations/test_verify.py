"""What only shows when all of a save file has been read: whether its parts speak of one guest."""

import io
import os

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
from xenqemu.errors import BadRecord, FormatError, Truncated, Unsupported
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxc, libxl
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.page_data import BROKEN, XALLOC, XTAB, PageData
from xenqemu.operations.verify import SPECIAL_PAGES, XEN_HVM, is_lab, verify

END = (libxl.End(),)
LAB = config(vcpus=1, host="lab")
LAB_DEVICES = (libxl.EmulatorContext(2, 0, save_files.unpacked("hvm.qevm")), *END)
"""The devices of a machine with one vcpu, which is a device of QEMU in the lab."""


def verified(data: bytes):
    return verify(io.BytesIO(data))


def without(name: str):
    return tuple(step for step in STEPS if getattr(step, "NAME", "") != name)


def with_params(params: dict[int, int], pages=made.PAGES):
    return (*STEPS[:3], pages, *STEPS[4:6], libxc.HvmParams(params), libxc.End())


def offset_of(data: bytes, what) -> int:
    """Return where a record that occurs once stands: its body is found, its header before."""
    body = what.pack()
    assert data.count(body) == 1
    return data.index(body) - 8


SOUND = {
    "hvm": save_file(),
    "pvh": save_file(config("pvh"), after=END),
    "pv": save_file(config("pv"), made.PV_STEPS, END, made.PV_DOMAIN),
    "lab": save_file(LAB, made.LAB_STEPS, LAB_DEVICES),
    "bare libxl": made.stream(STEPS, DEVICES),
    "bare libxl without devices": made.stream(STEPS, END),
    "bare libxc": made.image(STEPS),
    "bare libxc of a PV guest": made.image(made.PV_STEPS, made.PV_DOMAIN),
    "checkpointed": checkpointed(2),
    "device state": device_state(),
    "qemu-traditional": save_file(after=(libxl.EmulatorContext(1, 0, b"anything"), *END)),
    "no special page": save_file(steps=with_params({1: 0, 19: 1})),
    "special page of zeros": save_file(
        steps=with_params({1: 7}, (PageData.of([5, XALLOC | 7]), [made.PAGE]))
    ),
    "special page that came back": save_file(
        steps=(
            *(*STEPS[:3], (PageData.of([XTAB | 7]), []), (PageData.of([7]), [made.PAGE])),
            *(*STEPS[4:6], libxc.HvmParams({17: 7}), libxc.End()),
        )
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_verify_to_their_last_byte(name):
    data = SOUND[name]
    found = verified(data)
    assert (found.size, found.trailing) == (len(data), 0)
    assert is_lab(found) == (name == "lab")


@pytest.mark.parametrize("name", SOUND)
def test_cut_anywhere_is_refused(name):
    data = SOUND[name]
    ends = {len(data) * step // 40 for step in range(40)} | {len(data) - 1}
    if name == "checkpointed":  # which is whole after each checkpoint
        ends -= {len(checkpointed(1))}
    for end in sorted(ends):
        with pytest.raises(Truncated):
            verified(data[:end])


@pytest.mark.parametrize("name", save_files.SAVE_FILES)
def test_what_stock_xl_wrote_verifies(name):
    found = verified(save_files.unpacked(name))
    vcpus = 2 if name == "vga.save" else 1
    assert found.kind is Layer.XL
    assert (found.config.type, found.config.max_vcpus, found.context.vcpus) == ("hvm", vcpus, vcpus)
    assert found.has_device_state
    assert found.trailing == (44 if name == save_files.MIGRATION else 0)
    assert found.size + found.trailing == len(save_files.unpacked(name))
    assert {name: hex(found.params[index]) for index, name in SPECIAL_PAGES.items()} == {
        "STORE_PFN": "0xfeffc",
        "IOREQ_PFN": "0xfeffd",
        "BUFIOREQ_PFN": "0xfeffb",
        "CONSOLE_PFN": "0xfefff",
    }


def refused(data: bytes, error: FormatError):
    """Assert that a save file is refused with just this error."""
    with pytest.raises(FormatError) as caught:
        verified(data)
    assert (type(caught.value), vars(caught.value)) == (type(error), vars(error))


@pytest.mark.parametrize("name", XEN_HVM)
@pytest.mark.parametrize("whole", [True, False])
def test_image_of_xen_without_what_xen_needs(name, whole):
    data = save_file(steps=without(name)) if whole else made.image(without(name))
    refused(data, BadRecord("libxc image", len(data), name, "none in an image of an HVM guest"))


@pytest.mark.parametrize(("index", "name"), SPECIAL_PAGES.items())
@pytest.mark.parametrize(
    "pages",
    [made.PAGES, (PageData.of([5, BROKEN | 7]), [made.PAGE]), (PageData.of([XTAB | 7]), [])],
    ids=["never", "broken", "a hole"],
)
def test_special_page_that_is_not_populated(index, name, pages):
    params = {index: 7}
    data = save_file(steps=with_params(params, pages))
    at = offset_of(data, libxc.HvmParams(params))
    refused(data, BadRecord("libxc HVM_PARAMS", at, f"{name} among the pages", "0x7"))


def test_guest_of_the_lab_needs_nothing_of_xen_but_its_devices():
    data = save_file(LAB, made.LAB_STEPS, END)
    refused(data, BadRecord("libxl stream", len(data), "an EMULATOR_CONTEXT for hvm", "none"))


def test_guest_of_the_lab_has_only_those_vcpus_that_are_online():
    tree = config(vcpus=3, host="lab").tree
    some = DomainConfig({**tree, "b_info": {**tree["b_info"], "avail_vcpus": [0]}})
    found = verified(save_file(some, made.LAB_STEPS, LAB_DEVICES))
    assert found.config.vcpus == 1


def test_guest_of_the_lab_has_its_vcpus_among_its_devices():
    data = save_file(config(vcpus=3, host="lab"), made.LAB_STEPS, LAB_DEVICES)
    offset = offset_of(data, LAB_DEVICES[0])
    expected = "3 vcpus as in the config"
    refused(data, BadRecord("libxl EMULATOR_CONTEXT", offset, expected, "1"))


@pytest.mark.parametrize(
    ("kind", "steps", "domain", "image"),
    [
        ("pv", STEPS, made.DOMAIN, "HVM"),
        ("hvm", made.PV_STEPS, made.PV_DOMAIN, "PV"),
        ("pvh", made.PV_STEPS, made.PV_DOMAIN, "PV"),
    ],
)
def test_config_of_another_kind_of_guest(kind, steps, domain, image):
    data = save_file(config(kind), steps, END, domain)
    refused(data, BadRecord("xl config", 0, f"a guest like its {image} image", kind))


@pytest.mark.parametrize(
    ("kind", "parts", "expected", "got"),
    [
        ("hvm", (STEPS, END, made.DOMAIN), "an EMULATOR_CONTEXT for hvm", "none"),
        ("pvh", (STEPS, DEVICES, made.DOMAIN), "no EMULATOR_CONTEXT for pvh", "one"),
        ("pv", (made.PV_STEPS, DEVICES, made.PV_DOMAIN), "no EMULATOR_CONTEXT for pv", "one"),
    ],
)
def test_device_state_missing_or_too_much(kind, parts, expected, got):
    data = save_file(config(kind), *parts)
    refused(data, BadRecord("libxl stream", len(data), expected, got))


@pytest.mark.parametrize("vcpus", [1, 3])
def test_another_number_of_vcpus(vcpus):
    data = save_file(config(vcpus=vcpus))
    at = offset_of(data, made.CONTEXT)
    refused(data, BadRecord("libxc HVM_CONTEXT", at, f"{vcpus} vcpus as in the config", "2"))


def test_damage_inside_device_state_is_told_by_its_place_in_the_file():
    state = bytearray(device_state())
    state[4:8] = (4).to_bytes(4, "big")
    data = save_file(after=(libxl.EmulatorContext(2, 0, bytes(state)), *END))
    at = data.index(b"QEVM") + 4
    refused(data, Unsupported("device state header", at, f"version {device_stream.VERSION}", "4"))


def test_damage_inside_xens_state_is_told_by_its_place_in_the_file():
    blob = bytearray(made.CONTEXT.data)
    blob[8:12] = bytes(4)
    steps = tuple(libxc.HvmContext(bytes(blob)) if step is made.CONTEXT else step for step in STEPS)
    data = save_file(steps=steps)
    with pytest.raises(BadRecord, match="the magic 0x54381286") as caught:
        verified(data)
    assert caught.value.offset == data.index(bytes(blob)) + 8


@pytest.mark.parametrize("name", ["hvm", "pv", "lab", "checkpointed", "device state"])
def test_pipe_is_as_good_as_a_file(name, tmp_path):
    data = SOUND[name] + b"behind" * (name not in ("checkpointed", "device state"))
    (tmp_path / "record").write_bytes(data)
    with (tmp_path / "record").open("rb") as file:
        from_file = verify(file)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe:
        with os.fdopen(write, "wb") as end:
            assert end.write(data) == len(data)  # a pipe holds 64 KiB
        from_pipe = verify(pipe)
    assert from_pipe == from_file == verify(made.Dribble(data, 7))


def test_trailing_bytes_are_told_and_allowed():
    found = verified(SOUND["hvm"] + bytes(44))
    assert (found.size, found.trailing) == (len(SOUND["hvm"]), 44)


@pytest.mark.parametrize("data", [b"", b"Xen", b"no record at all"])
def test_what_is_no_record(data):
    with pytest.raises(FormatError, match="one of XL, LIBXL, LIBXC, DEVICE_STATE"):
        verified(data)
