"""Summaries of contents that real save files do not have."""

import json

from xenqemu.cli import report
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.device_state.device_stream import Ambiguity, DeviceState, Section
from xenqemu.formats.stream.detect import Layer
from xenqemu.formats.stream.libxc import DomainHeader, ImageHeader
from xenqemu.operations.inspect import Contents, Pages, RecordRun

CONFIG = DomainConfig(
    {
        "c_info": {
            "type": "hvm",
            "name": "a\x1b[31mname",
            "uuid": "9233e52c-49ca-454f-96be-f53e22f3994d",
        },
        "b_info": {"max_vcpus": 2, "max_memkb": 65536},
        "disks": [{"vdev": "hdc", "format": "raw", "readwrite": 0, "is_cdrom": 1, "removable": 1}],
        "nics": [{"devid": 0}],
        "xenqemu": {"host": "lab"},
    }
)


def test_a_summary_says_only_what_there_is():
    assert report.summary(Contents(Layer.LIBXC, size=40)) == "libxc, 40 bytes"
    found = Contents(Layer.LIBXL, size=9, checkpoints=2, trailing=7, image=ImageHeader(3))
    found.pages = Pages(data=256, zero=3, other=1)
    assert report.summary(found) == (
        "libxl, 9 bytes; 256 pages (1 MiB), 3 of zeros, 1 holes; "
        "2 complete checkpoints and no END, as Remus leaves it; 7 bytes after END"
    )


def test_a_config_of_the_lab(capsys):
    found = Contents(Layer.XL, config=CONFIG)
    found.records = [
        RecordRun("xl", "header", 0, 9),
        RecordRun("", "bytes after END", 9, 16, count=2, text="said"),
    ]
    report.tree(found)
    assert capsys.readouterr().out == (
        "      OFFSET         SIZE  RECORD\n"
        "         0x0            9  xl header\n"
        "         0x9           16   bytes after END x 2  said\n"
        "\n"
        "name     a\\x1b[31mname\n"
        "uuid     9233e52c-49ca-454f-96be-f53e22f3994d\n"
        "type     hvm of the lab\n"
        "config   64 MiB, 2 vcpus\n"
        "disk     hdc empty raw ro\n"
        "nic      no mac\n"
    )


DEVICES = DeviceState(
    (
        Section(1, "timer", 0, 2, bytes(24), 8),
        Section(7, "i8259", 1, 1, bytes(16), 0x30, certain=False),
    ),
    (Ambiguity(0x30, 0x60, "two readings", ()),),
)


def test_uncertain_devices(capsys):
    report.tree(Contents(Layer.DEVICE_STATE, devices=DEVICES))
    assert capsys.readouterr().out == (
        "\n"
        "      OFFSET       LENGTH  VERSION  DEVICE\n"
        "         0x8           24        2  timer\n"
        "        0x30           16        1  i8259 #1  (uncertain)\n"
        "uncertain from 0x30 to 0x60: two readings\n"
    )
    fields = report.fields(Contents(Layer.DEVICE_STATE, devices=DEVICES))
    assert fields["devices"][1] == {
        "id": 7,
        "idstr": "i8259",
        "instance_id": 1,
        "version_id": 1,
        "offset": 0x30,
        "length": 16,
        "certain": False,
    }
    (doubt,) = fields["ambiguities"]
    assert (doubt["offset"], doubt["end"], doubt["reason"]) == (0x30, 0x60, "two readings")


def test_fields_of_a_record_without_parts():
    assert report.fields(Contents(Layer.LIBXC, size=40)) == {
        "kind": "libxc",
        "size": 40,
        "trailing": 0,
        "checkpoints": 0,
        "records": [],
    }


def test_fields_of_an_image():
    found = Contents(Layer.LIBXC, image=ImageHeader(2), domain=DomainHeader(1, 4, 13))
    assert report.fields(found)["image"] == {
        "version": 2,
        "type": 1,
        "xen_major": 4,
        "xen_minor": 13,
        "pages": {"data": 0, "zero": 0, "other": 0},
        "hvm_params": {},
    }


def test_fields_of_an_image_are_json():
    found = Contents(Layer.XL, config=CONFIG, image=ImageHeader(3), domain=DomainHeader(2, 4, 17))
    found.records = [RecordRun("xl", "header", 0, 9)]
    assert json.loads(json.dumps(report.fields(found)))["image"]["hvm_params"] == {}
