"""The save files in tests/golden, compressed, as stock xl wrote them of guests under TCG.

::

    hvm.save             xl save -c, Xen 4.17, QEMU 7.2: HVM, 16 MiB, firmware only, no vga
    hvm-cfg.save         the same guest, xl save -c DOMAIN FILE CFG
    hvm-xen4.20.save     the same by Xen 4.20, QEMU 10.0
    vga.save             2 vcpus (one is up), 32 MiB, std vga, usb tablet, e1000, IDE disk, serial
    hvm-migrate.stream   all that xl migrate sent: live, and its last message after END
"""

from functools import lru_cache
from pathlib import Path

import zstandard

FOLDER = Path(__file__).parent

SAVES = ("hvm.save", "hvm-cfg.save", "hvm-xen4.20.save", "vga.save")
MIGRATION = "hvm-migrate.stream"
SAVE_FILES = (*SAVES, MIGRATION)


@lru_cache(maxsize=1)
def unpacked(name: str) -> bytes:
    """Return the bytes of a save file, or of another compressed file there."""
    return zstandard.decompress((FOLDER / f"{name}.zst").read_bytes())
