"""The sound inputs that are damaged: small, so that damage hits structure and not guest pages.

What stock Xen and QEMU wrote (tests/golden) is used without its pages, of which one keeps its
bytes and those that HVM_PARAMS name stay populated, and without device states of many kilobytes.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import asdict
from functools import cache

from tests.doubles.in_memory import save_files as sample
from tests.fuzz import layouts
from tests.golden import save_files as golden
from tests.property import strategies as made
from xenqemu.formats import zstd_seekable
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxc, libxl, page_data, xl
from xenqemu.formats.stream.detect import Layer, Trailing, Walk
from xenqemu.formats.stream.framing import write_record
from xenqemu.formats.stream.page_data import XALLOC, PageData
from xenqemu.formats.stream.sink import Sink
from xenqemu.formats.stream.source import Source
from xenqemu.formats.stream.value import Value
from xenqemu.formats.typed_json import plain
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.steps import Commit
from xenqemu.system.staged_file import Traces

MOST_STATE = 5000
"""Bytes of one device's state that is kept."""

MOST_MADE_UP = 1 << 16
"""Bytes of a made up stream at most; there are some few longer ones."""

FOOTED = ("q35", "virtio", "cards", "vga")
MACHINE = "pc-i440fx-7.2"


@cache
def guest_streams() -> tuple[bytes, ...]:
    """Xen's own save files shrunk, and made ones of each kind of guest and stream."""
    real = tuple(shrunk(golden.unpacked(name)) for name in golden.SAVE_FILES)
    xenstore = (made.XENSTORE, *sample.DEVICES)
    pv = (sample.config("pv"), made.PV_STEPS, sample.DEVICES[1:], made.PV_DOMAIN)
    mixed = (
        *made.HVM_STEPS[:3],
        made.MIXED,
        *sample.STEPS[3:4],
        made.OPTIONAL,
        *sample.STEPS[4:],
    )
    return (
        *real,
        sample.save_file(),
        sample.save_file(steps=mixed, after=xenstore) + b"behind",
        sample.save_file(*pv),
        lab_save_file(),
        sample.checkpointed(2),
        made.checkpointed(2, colo=True).replace(_record(made.EMULATOR), _record(sample.DEVICES[0])),
        made.stream(sample.STEPS, xenstore),
        made.image(sample.STEPS),
        made.image(made.PV_STEPS_V2, made.PV_DOMAIN, 2),
    )


def shrunk(data: bytes) -> bytes:
    """Return a save file without its pages: one PAGE_DATA instead of all of them."""
    steps = list(Walk(Source.of(data)))
    params = next(step.value.params for step in steps if isinstance(step.value, libxc.HvmParams))
    special = sorted(pfn for pfn in set(params.values()) if 0xFE000 <= pfn < 1 << 20)
    first = next(step for step in steps if isinstance(step.value, PageData))
    one = _page_record(PageData.of([0, 1, *(XALLOC | pfn for pfn in special)]), made.PAGE * 2)
    others = {step.offset for step in steps if isinstance(step.value, PageData)} - {first.offset}
    return b"".join(
        one if step is first else _small(step.value, data[step.offset : step.offset + step.size])
        for step in steps
        if step.offset not in others
    )


def _small(value: object, data: bytes) -> bytes:
    if not isinstance(value, libxl.EmulatorContext):
        return data if not isinstance(value, Trailing) else data[:64]
    return _record(libxl.EmulatorContext(value.emulator_id, value.index, without_big(value.state)))


def _record(value: Value) -> bytes:
    out = io.BytesIO()
    write_record(Sink(out), value.kind, value.pack())
    return out.getvalue()


def _page_record(pages: PageData, data: bytes) -> bytes:
    out = io.BytesIO()
    page_data.write(Sink(out), pages, [data])
    return out.getvalue()


def without_big(stream: bytes) -> bytes:
    """Return device state without the devices whose state is big."""
    state = device_stream.read(stream)
    return device_stream.write([s for s in state.sections if s.length < MOST_STATE], state.footers)


@cache
def device_states() -> tuple[bytes, ...]:
    """Device state alone: QEMU's own, and one device of each kind in the table of layouts."""
    plain = [golden.unpacked(f"{name}.qevm") for name in ("hvm", "vga", "hvm-qemu10")]
    footed = [golden.unpacked(f"{name}-with-footers.qevm") for name in FOOTED]
    made_up = (stream for stream in layouts.streams() if len(stream) < MOST_MADE_UP)
    return (*map(without_big, [*plain, *footed]), *made_up)


@cache
def save_files() -> tuple[bytes, ...]:
    """The save files: all layers."""
    return tuple(data for data in guest_streams() if data.startswith(xl.MAGIC))


@cache
def streams() -> tuple[bytes, ...]:
    """All that `verify` and `inspect` read."""
    return (*guest_streams(), *device_states()[: 3 + len(FOOTED)])


@cache
def contexts() -> tuple[bytes, ...]:
    """Bodies of HVM_CONTEXT."""
    steps = (step.value for data in guest_streams() for step in Walk(Source.of(data)))
    found = (step.data for step in steps if isinstance(step, libxc.HvmContext))
    return tuple(dict.fromkeys(found))


def lab_save_file() -> bytes:
    """A guest of the lab: no HVM_CONTEXT, its vcpus are among the devices."""
    stream = without_big(golden.unpacked("virtio-with-footers.qevm"))
    cpus = sum(section.idstr == "cpu" for section in device_stream.read(stream).sections)
    config = sample.config(vcpus=cpus, host="lab", machine=MACHINE, accel="tcg")
    hvm = {"vga": {"kind": "std"}, "serial_list": ["pty", "null"]}
    disks = [{"pdev_path": "/dev/null", "vdev": "hda", "format": "raw", "readwrite": 1}]
    tree = {**config.tree, "b_info": {**config.tree["b_info"], "type.hvm": hvm}, "disks": disks}
    device = libxl.EmulatorContext(2, 0, stream)
    return sample.save_file(DomainConfig(tree), made.LAB_STEPS, (device, libxl.End()))


@cache
def big_save_files() -> tuple[bytes, ...]:
    """One save file as Xen wrote it, with all its pages."""
    return (golden.unpacked("hvm.save"),)


@cache
def libxl_streams() -> tuple[bytes, ...]:
    """The libxl streams of all save files."""
    whole = tuple(data[len(_header(data)) :] for data in save_files())
    return (*whole, *(data for data in guest_streams() if data.startswith(Layer.LIBXL.value)))


@cache
def libxc_images() -> tuple[bytes, ...]:
    """The libxc images of all streams, with what follows them there."""
    return tuple(data[data.index(Layer.LIBXC.value) :] for data in guest_streams())


def _header(data: bytes) -> bytes:
    return data[: next(iter(Walk(Source.of(data)))).size]


@cache
def headers() -> tuple[bytes, ...]:
    """The xl headers of all save files, and one of an older xl."""
    return (
        *map(_header, save_files()),
        xl.XlHeader(xl.STREAM_V2, b'name = "old"\n', b"tail").pack(),
    )


@cache
def page_records() -> tuple[bytes, ...]:
    """PAGE_DATA records of every type of page."""
    samples = (made.MIXED, made.ONE, made.PAGES, made.PV_MEMORY[1])
    return tuple(_page_record(pages, b"".join(buffers)) for pages, buffers in samples)


@cache
def configs() -> tuple[bytes, ...]:
    """Configs in JSON, as libxl writes them (`list-…` are arrays of them)."""
    return (
        *_files("domain_config", "[!l]*.json"),
        *_files("xlcfg", "*.json"),
        sample.config(a=[1]).dump(),
    )


@cache
def journals() -> tuple[bytes, ...]:
    """What a save that was killed behind its point of no return has left in its journal."""
    uuid = sample.config().uuid
    about = About("save", 3, sample.NAME, uuid, "/var/lib/xen/save/guest", 5, 7, 1.5)
    commit = Commit(
        steps.HasRun(3, uuid), "the save file is the guest now", (steps.Unpause(3, uuid),)
    )
    lines = [
        asdict(about),
        {"phase": "quiesce"},
        {"undo": plain(steps.Resume(3, uuid))},
        {"undo": plain(steps.KeepDisks(uuid, ("/disk.img",)))},
        {"cleanup": plain(steps.RemoveDraft(Traces("/record", ".record")))},
        {"done": 1},
        {"commit": plain(commit)},
        {"committed": True},
    ]
    return ("".join(f"{json.dumps(line)}\n" for line in lines).encode(),)


@cache
def settings() -> tuple[bytes, ...]:
    """The settings file with its defaults, as they are and set."""
    text = (golden.FOLDER.parent.parent / "etc" / "xenqemu.conf").read_text()
    return text.encode(), re.sub(r"(?m)^#\s?(?=\w+ = )", "", text).encode()


@cache
def xendomains() -> tuple[bytes, ...]:
    """Settings of xendomains, in each way to quote them."""
    names = ("MIGRATE", "SAVE", "RESTORE", "AUTO", "STOP_MAXWAIT")
    values = ('""', "/var/lib/xen/save", "'true'  # or false", '"/etc/xen/auto"', "300")
    lines = (f"XENDOMAINS_{name}={value}\n" for name, value in zip(names, values, strict=True))
    return ("".join(("# as Debian has them\n", *lines, "export OTHER=$(date)\n")).encode(),)


@cache
def cfgs() -> tuple[bytes, ...]:
    """Texts of xl.cfg."""
    return _files("xlcfg", "*.cfg")


def _files(folder: str, pattern: str) -> tuple[bytes, ...]:
    paths = sorted((golden.FOLDER / folder).glob(pattern))
    return tuple(path.read_bytes() for path in paths)


@cache
def specs() -> tuple[bytes, ...]:
    """Strings of `disk = […]` and `vif = […]`, in their quotes."""
    return tuple(
        f"'{text}'".encode()
        for text in (
            "/dev/vg/root,raw,hda,rw",
            "format=qcow2, vdev=xvdb, access=ro, backendtype=qdisk, target=/img/a,b.qcow2",
            "phy:/dev/vg/data,hdb:disk,w",
            "vdev=sda,script=block-x,direct-io-safe,discard,backend=storage,target=x",
            ",hdc:cdrom,r",
            "mac=00:16:3E:01:02:0a, bridge=xenbr0, model=e1000, type=ioemu, rate=10Mb/s@20ms",
            "type=vif,script=vif-route,ip=10.0.0.2,vifname=v1,mtu=9000,gatewaydev=eth0,devid=3",
        )
    )


@cache
def seekable_files() -> tuple[bytes, ...]:
    """Ends of compressed files: seek tables behind frames of zeros."""
    sizes = ([(100, 4096), (50, 1), (9, 0), (7, 70000)], [(1, 1)], [])
    return tuple(
        bytes(sum(packed for packed, _ in each)) + zstd_seekable.pack_table(each) for each in sizes
    )
