"""What libxl's save helper says: messages and their bytes."""

from xenqemu.formats.helper import messages as hm

# As written by libxl-save-helper of Xen 4.17 (seen with strace), then by hand from the drawing.
PAIRS = [
    (
        hm.Log(hm.DEBUG, 0, "libxl-save-helper", "starting save"),
        bytes.fromhex("3200 0100 01000000 00000000 12000000")
        + b"libxl-save-helper\0\x0e\0\0\0starting save\0",
    ),
    (
        hm.Progress("xc", "Frames", 11264, 1044480),
        b"\x24\0\2\0\3\0\0\0xc\0\7\0\0\0Frames\0"
        + bytes.fromhex("002c000000000000 00f00f0000000000"),
    ),
    (hm.Suspend(), bytes.fromhex("0200 0300")),
    (hm.Postcopy(), bytes.fromhex("0200 0400")),
    (hm.Checkpoint(), bytes.fromhex("0200 0500")),
    (hm.WaitCheckpoint(), bytes.fromhex("0200 0600")),
    (hm.SwitchQemuLogdirty(12, 1), bytes.fromhex("0a00 0700 0c000000 01000000")),
    (hm.StaticDataDone(3), bytes.fromhex("0600 0800 03000000")),
    (
        hm.RestoreResults(0xFEFFC, 0xFEFFF),
        bytes.fromhex("1200 0900 fcef0f0000000000 ffef0f0000000000"),
    ),
    (hm.Complete(-1, 28), bytes.fromhex("0a00 0a00 ffffffff 1c000000")),
]
STREAM = b"".join(data for _, data in PAIRS)
