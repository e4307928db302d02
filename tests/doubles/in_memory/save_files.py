"""Configurations, device state and save files of small guests, sound or made to order."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from tests.property import strategies as made
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state import device_stream
from xenqemu.formats.stream import libxc, libxl, xl
from xenqemu.formats.stream.sink import Sink

NAME = "sample"
UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"


def config(
    kind: str = "hvm",
    vcpus: int = 2,
    name: str = NAME,
    uuid: str = UUID,
    image: Path | None = None,
    **extra: object,
) -> DomainConfig:
    """Return a small configuration; `image` is its disk, `extra` xenqemu's data in it."""
    tree: dict[str, object] = {
        "c_info": {"type": kind, "name": name, "uuid": uuid},
        "b_info": {"max_vcpus": vcpus, "max_memkb": 64, f"type.{kind}": {}},
    }
    if image:
        disk = {"pdev_path": str(image), "vdev": "hda", "format": "raw", "readwrite": 1}
        tree["disks"] = [disk]
    return DomainConfig(tree | ({"xenqemu": extra} if extra else {}))


def config_with(**sections: object) -> DomainConfig:
    """Return that configuration with more in it: what is given as c_info and b_info is added."""
    tree = dict(config().tree)
    for name, section in sections.items():
        tree[name] = {**tree.get(name, {}), **section} if isinstance(section, dict) else section
    return DomainConfig(tree)


def device_state(tick: int = 0) -> bytes:
    """Return the state of a machine that has one device, a timer."""
    return device_stream.write(
        [device_stream.Section(0, "timer", 0, 2, struct.pack(">QQQ", tick, 0, 0))]
    )


STEPS = (
    *(made.CPUID, made.MSRS, libxc.StaticDataEnd(), made.PAGES, made.TSC, made.CONTEXT),
    *(libxc.HvmParams({1: 5, 17: 6}), libxc.End()),
)
"""A sound image of an HVM guest with two vcpus, whose special pages are among its three."""

DEVICES = (libxl.EmulatorContext(2, 0, device_state()), libxl.End())


def save_file(what: DomainConfig | None = None, steps=STEPS, after=DEVICES, domain=made.DOMAIN):
    """Return an xl save file."""
    header = xl.XlHeader.of_json((what or config()).dump().decode())
    return header.pack() + made.stream(steps, after, domain=domain)


def checkpointed(count: int) -> bytes:
    """Return a libxl stream of `count` checkpoints, as Remus leaves it."""
    out = io.BytesIO()
    sink = Sink(out)
    stream = libxl.StreamWriter(sink)
    stream.write(libxl.LibxcContext())
    image = libxc.ImageWriter(sink, made.DOMAIN)
    made.put(image, STEPS[:3])
    for _ in range(count):
        made.put(image, (*STEPS[3:-1], libxc.Checkpoint()))
        stream.image_written(checkpoint=True)
        stream.write(DEVICES[0])
        stream.write(libxl.CheckpointEnd())
    return out.getvalue()
