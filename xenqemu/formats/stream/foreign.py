"""What a file is that is none of ours: named by its first bytes, so that people know what to do.

Sources: xen-api's xenopsd (suspend_image.ml), libvirt's libxl_conf.h and qemu_saveimage.h, xend's
XendCheckpoint.py, and the magic numbers of each format.
"""

from __future__ import annotations

XL = b"Xen saved domain, xl format"
"""How xl's magic begins, before the line ends that are there to show damage."""

LONGEST = 512
"""Bytes that are looked at."""

_UNPACK = "unpack it first, with {}"

KINDS: tuple[tuple[bytes, str], ...] = (
    (b"XenSavedDomv2", "a suspend image of XAPI (XenServer, XCP-ng), which xl cannot read"),
    (b"XenSavedDomain", "a suspend image of an old XAPI, which xl cannot read"),
    (b"libvirt-xml", "a save file of libvirt's driver for Xen: restore it with virsh"),
    (b"LibvirtQemudSave", "a save file of libvirt for QEMU or KVM: restore it with virsh"),
    (b"LibvirtQemudPart", "an incomplete save file of libvirt for QEMU or KVM"),
    (b"LinuxGuestRecord", "a save file of xend (xm), of Xen 4.4 or older"),
    (b"\x1f\x8b", f"a gzip file: {_UNPACK.format('gzip -d')}"),
    (b"\x28\xb5\x2f\xfd", f"a zstd file: {_UNPACK.format('zstd -d')}"),
    (b"\xfd7zXZ\0", f"an xz file: {_UNPACK.format('xz -d')}"),
    (b"BZh", f"a bzip2 file: {_UNPACK.format('bzip2 -d')}"),
    (b"\x04\x22\x4d\x18", f"an lz4 file: {_UNPACK.format('lz4 -d')}"),
    (b"\x02\x21\x4c\x18", f"an lz4 file: {_UNPACK.format('lz4 -d')}"),
    (b"\x89LZO\0\r\n\x1a\n", f"an lzop file: {_UNPACK.format('lzop -d')}"),
    (b"LZIP", f"an lzip file: {_UNPACK.format('lzip -d')}"),
    (b"PK\x03\x04", f"a zip file: {_UNPACK.format('unzip')}"),
    (b"7z\xbc\xaf\x27\x1c", f"a 7z file: {_UNPACK.format('7z x')}"),
    (b"\x7fELF", "an ELF file: a kernel, a program, or a core dump of xl dump-core"),
    (b"\x7fXEN", "a core dump of an old xm dump-core"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (b"QED\0", "a qed disk image"),
    (b"KDMV", "a vmdk disk image"),
    (b"conectix", "a vhd disk image"),
    (b"vhdxfile", "a vhdx disk image"),
    (b"KDUMP", "a kdump file"),
    (b"age-encryption.org/", "a file encrypted by age: decrypt it first"),
    (b"-----BEGIN PGP", "a file encrypted by PGP: decrypt it first"),
    (b"Salted__", "a file encrypted by openssl: decrypt it first"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
    (b"<?xml", "XML, perhaps libvirt's description of a domain"),
    (b"<domain", "libvirt's description of a domain"),
)
"""How other formats begin, and what they are."""

_SKIPPABLE = range(0x50, 0x60)
"""First bytes of a skippable frame of zstd, which pzstd and the seekable format begin with."""

_IN_UTF_16 = b"".join(b"%c\0" % byte for byte in XL)

_DAMAGE: tuple[tuple[bytes, str], ...] = (
    (XL + b"\r\n", "its line ends became CRLF, as when it was copied as text"),
    (XL + b"\n \0 \n", "its CRs became LF, as when it was copied as text"),
    (XL + b"\r \0", "its line ends became CR, as when it was copied as text"),
    (XL + b"\n  \r", "its NULs were removed, as when it was copied as text"),
    (XL + b"\n", "its first 32 bytes are not whole, as when it was copied as text"),
    (b"\xef\xbb\xbf" + XL, "a byte order mark was put before it, as when it was copied as text"),
    (_IN_UTF_16, "it became UTF-16, as when it was copied as text"),
    (b"\xff\xfe" + _IN_UTF_16, "it became UTF-16, as by PowerShell's >"),
    (b"libvirt-xml\r\n", "of libvirt; its line ends became CRLF, as when it was copied as text"),
)


def damage(begin: bytes) -> str:
    """Return what happened to a save file that begins so, "" if that is not known."""
    return next((what for start, what in _DAMAGE if begin.startswith(start)), "")


def kind(begin: bytes) -> str:
    """Return what a file is that begins so, "" if that is not known."""
    found = next((what for start, what in KINDS if begin.startswith(start)), "")
    if not found and begin[1:4] == b"\x2a\x4d\x18" and begin[0] in _SKIPPABLE:
        return f"a zstd file: {_UNPACK.format('zstd -d')}"
    if not found and begin[257:262] == b"ustar":
        return f"a tar file: {_UNPACK.format('tar -x')}"
    if not found and len(begin) == LONGEST and not any(begin):
        return "zeros: a file that was not written before the system went down, or a raw disk"
    return found
