"""Files of others are named as what they are, those of real programs as they write them."""

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from tests.golden import save_files
from tests.property import strategies as made
from xenqemu.errors import BadRecord, Unsupported
from xenqemu.formats.stream.detect import detect
from xenqemu.formats.stream.foreign import KINDS
from xenqemu.formats.stream.source import Source

SAVED = made.save()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("guest.save")
        entry.size = len(SAVED)
        archive.addfile(entry, io.BytesIO(SAVED))
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("guest.save", SAVED)
    return out.getvalue()


WRITTEN = [
    (gzip.compress(SAVED, mtime=0), "a gzip file: unpack it first, with gzip -d"),
    (bz2.compress(SAVED), "a bzip2 file"),
    (lzma.compress(SAVED), "an xz file"),
    (zstandard.ZstdCompressor().compress(SAVED), "a zstd file"),
    (b"\x5e\x2a\x4d\x18\4\0\0\0seek", "a zstd file"),
    (tarred(), "a tar file"),
    (zipped(), "a zip file"),
    (Path(sys.executable).read_bytes()[:4096], "an ELF file"),
    (b"XenSavedDomv2\n<xml/>", "a suspend image of XAPI"),
    (
        b"libvirt-xml\n \0 \r\1\0\0\0",
        "a save file of libvirt's driver for Xen: restore it with virsh",
    ),
    (b"LibvirtQemudSave\2\0\0\0", "a save file of libvirt for QEMU or KVM"),
    (b"LinuxGuestRecord\0\0", "a save file of xend"),
    (b"QFI\xfb\0\0\0\3", "a qcow2 disk image"),
    (bytes(4096), "zeros"),
]


@pytest.mark.parametrize(("data", "what"), WRITTEN, ids=lambda value: str(value)[:20])
def test_the_format_is_named(data, what):
    for source in (Source.of(data), made.dribbled(data)):
        with pytest.raises(Unsupported) as caught:
            detect(source)
        assert caught.value.got.startswith(what)
        assert source.offset == 0


@pytest.mark.parametrize(("begin", "what"), KINDS)
def test_each_kind_is_known_by_its_first_bytes_alone(begin, what):
    with pytest.raises(Unsupported) as caught:
        detect(Source.of(begin))
    assert caught.value.got == what


@pytest.mark.parametrize(
    ("damaged", "what"),
    [
        (SAVED.replace(b"\n", b"\r\n"), "its line ends became CRLF"),
        (SAVED.replace(b"\r", b"\n"), "its CRs became LF"),
        (SAVED.replace(b"\n", b"\r"), "its line ends became CR,"),
        (SAVED.replace(b"\0", b""), "its NULs were removed"),
        (SAVED.replace(b"\0", b" "), "its first 32 bytes are not whole"),
        (b"\xef\xbb\xbf" + SAVED, "a byte order mark was put before it"),
        (SAVED.decode("latin-1").encode("utf-16"), "it became UTF-16"),
        (b"libvirt-xml\n \0 \r".replace(b"\n", b"\r\n"), "of libvirt; its line ends became CRLF"),
    ],
)
def test_what_was_done_to_a_save_file_is_told(damaged, what):
    with pytest.raises(BadRecord) as caught:
        detect(Source.of(damaged))
    assert caught.value.got.startswith(f"a damaged one: {what}")


@pytest.mark.parametrize("name", save_files.SAVE_FILES)
def test_a_save_file_is_none_of_them(name):
    detect(Source.of(save_files.unpacked(name)[:4096]))
