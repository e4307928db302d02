"""One string of `disk = […]`, and the disk that it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.strategies import outcome
from xenqemu.errors import BadRecord, FormatError, Unsupported
from xenqemu.formats.config.xl_cfg_disk import parse_disk

RAW = {"pdev_path": "/a.img", "vdev": "hda", "format": "raw", "readwrite": 1}
CD = {"vdev": "hdc", "format": "empty", "removable": 1, "is_cdrom": 1}

DISKS = [
    ("/a.img,raw,hda,rw", RAW),
    ("/a.img,raw,hda,w", RAW),
    ("/a.img,,hda,", RAW),
    (" /a.img, vdev=hda", RAW),
    ("/a.img,qcow2,hda,ro", {"pdev_path": "/a.img", "vdev": "hda", "format": "qcow2"}),
    ("/a.img,format=vhd,hda", {**RAW, "format": "vhd"}),
    ("vdev=hda,target=/a,b=c, d", {**RAW, "pdev_path": "/a,b=c, d"}),
    ("vdev=hda,target=/a.img,", RAW),
    ("file:/a.img,hda,w", RAW),
    ("qcow2:/a.img,hda,w", {**RAW, "format": "qcow2"}),
    ("tap2:aio:/a.img,hda", RAW),
    ("enbd:/a.img,hda", {**RAW, "script": "block-enbd"}),
    (",hdc:cdrom,r", {"pdev_path": "", **CD}),
    ("cdrom,vdev=hdc", CD),
    ("/a.iso,raw,hdc,devtype=cdrom", {"pdev_path": "/a.iso", **CD, "format": "raw"}),
    ("/a.img,raw,hda,cdrom,devtype=disk", RAW),
    ("/a.img,raw,hda,w,trusted", {**RAW, "trusted": "True"}),
    ("untrusted,/a.img,vdev=hda", {**RAW, "trusted": "False"}),
    ("grant_usage=1,/a.img,vdev=hda", {**RAW, "grant_usage": "True"}),
    ("grant_usage=0,/a.img,vdev=hda", {**RAW, "grant_usage": "False"}),
    ("specification=virtio,/a.img,vdev=hda", {**RAW, "specification": "virtio"}),
    ("colo-host=h,colo-port=5,/a.img,vdev=hda", {**RAW, "colo_host": "h", "colo_port": 5}),
]

BAD_DISKS = [
    ("", 0, "a vdev"),
    ("/a", 2, "a vdev"),
    ("/a,raw,", 7, "a vdev"),
    ("vdev=hda", 8, "a target"),
    ("/a,raw,hda,x", 11, "one of rw, w, ro, r"),
    ("/a,raw,hda,w,w", 13, "at most target, format, vdev, access"),
    ("/a,hda", 3, "one of raw, qcow"),
    ("é,raw,format=vhd", 7, "one format"),
    ("/a,vdev=hda,vdev=hdb", 12, "one vdev"),
    ("/a,raw,hda:tape", 7, "one of cdrom, disk"),
    ("/a,raw,hda,devtype=tape", 11, "one of cdrom, disk"),
    ("/a,backendtype=file", 3, "one of phy, tap"),
    ("/a,backendtype=phy,backendtype=tap", 19, "one backendtype"),
    ("/a,specification=scsi", 3, "one of xen, virtio"),
    ("/a,colo-port=x", 3, "a port"),
    ("raw:qcow:/a,hda", 4, "one format"),
    ("http://a,raw,hda", 0, "a prefix that xl knows"),
]


@pytest.mark.parametrize(("spec", "disk"), DISKS)
def test_disk_specs(spec, disk):
    assert parse_disk(spec) == disk


def test_the_fields_are_in_libxls_order():
    spec = "trusted,discard,backendtype=phy,vdev=xvda,backend=d,script=s,direct-io-safe,target=/a"
    assert list(parse_disk(spec)) == [
        *("backend_domname", "pdev_path", "vdev", "backend", "format", "script", "readwrite"),
        *("direct_io_safe", "discard_enable", "trusted"),
    ]


@pytest.mark.parametrize(("spec", "offset", "expected"), BAD_DISKS)
def test_bad_disk_specs(spec, offset, expected):
    with pytest.raises(BadRecord, match=expected) as caught:
        parse_disk(spec)
    assert (caught.value.record, caught.value.offset) == ("disk spec", offset)


@pytest.mark.parametrize("word", ["transport=mmio", "FOO=1", "grant_usage=2", "=x", "foo="])
def test_a_key_that_no_xl_knows_is_refused_by_its_name(word):
    name = word.partition("=")[0]
    with pytest.raises(Unsupported, match=f"a known key, got '{name}'"):
        parse_disk(f"vdev=hda,{word},target=/a")


@given(st.text(), st.text("a:,=rwhd/ "))
def test_any_disk_spec_reads_or_is_refused(one, other):
    for spec in (one, other):
        disk = outcome(parse_disk, spec)
        if isinstance(disk, FormatError):
            assert disk.record == "disk spec"
        else:
            assert disk["vdev"] is not None
            assert "removable" in disk or disk["pdev_path"] is not None
