"""The sections of a stream of device state, found without the reader that is tested.

The streams in tests/golden were written by stock QEMU, and a list of devices (JSON) lies beside
those without footers::

    hvm, hvm-qemu10       xen-save-devices-state of a Xen guest: QEMU 7.2, and 10.0; no vga
    vga                   2 vcpus, std vga, usb tablet, e1000, IDE disk, serial; QEMU 7.2
    vga-with-footers      the same with -global migration.send-section-footer=on
    q35-…, virtio-…, cards-with-footers        plain QEMU 7.2: machines "q35", "pc, scsi and virtio"
                          and "pc, cirrus, floppy, sound" of integration/lab/test_device_state.py
    express-…             its machine "pc, Express cards on its bus"
"""

from xenqemu.formats.device_state import device_stream
from xenqemu.formats.device_state.section_header import header_at, pack_footer


def cuts_by_footers(data: bytes) -> list[tuple[str, int, int, bytes]]:
    """Split a stream by its footers alone: (idstr, instance, version, state)."""
    cuts = []
    at = 8
    while data[at]:
        header = header_at(data, at)
        assert header is not None
        footer = pack_footer(header.id)
        end = data.index(footer, header.start)
        while header_at(data, end + 5) is None and end + 6 != len(data):
            end = data.index(footer, end + 1)
        state = data[header.start : end]
        cuts.append((header.idstr, header.instance_id, header.version_id, state))
        at = end + 5
    assert at == len(data) - 1
    return cuts


def as_tuples(state: device_stream.DeviceState) -> list[tuple[str, int, int, bytes]]:
    return [(s.idstr, s.instance_id, s.version_id, s.data) for s in state.sections]
