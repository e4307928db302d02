"""What of a guest is in no save file: each is refused by its name."""

import pytest

from tests.doubles.in_memory.save_files import config_with
from xenqemu.host.findings import Severity
from xenqemu.host.outside_state import outside_state
from xenqemu.host.trust import DEFAULT_TRUST, Trust


def hvm(**keys):
    return config_with(b_info={"type.hvm": keys})


def extra(*words):
    return config_with(b_info={"extra_hvm": list(words)})


CASES = [
    (config_with(pcidevs=[{"bus": 3}]), "passthrough", "a PCI device of the host (pcidevs=0000:03"),
    (config_with(dtdevs=[{"path": "/soc/x"}]), "passthrough", "a device of the host (dtdevs.path="),
    (
        config_with(b_info={"irqs": [5]}),
        "passthrough",
        "a device of the host (b_info.irqs=5)",
    ),
    (
        config_with(usbdevs=[{"type.hostdev": {"hostbus": 1, "hostaddr": 2}}]),
        "passthrough",
        "a USB device of the host (usbdevs=hostbus=1,hostaddr=2)",
    ),
    (hvm(usbdevice="host:1234:5678"), "passthrough", "a USB device of the host"),
    (hvm(gfx_passthru="True"), "passthrough", "the graphics card of the host"),
    (extra("-device", "vfio-pci,host=03:00.0"), "passthrough", "a device of the host"),
    (extra("-device", "vfio-pci,sysfsdev=/sys/bus/mdev/devices/a"), "vgpu", "a vGPU"),
    (hvm(vgpu="nvidia-35"), "vgpu", "a vGPU (b_info.type.hvm.vgpu=nvidia-35)"),
    (extra("-tpmdev", "emulator,id=a", "-device", "tpm-tis,tpmdev=a"), "vtpm", "a vTPM"),
    (extra("-pflash", "/var/vars.fd"), "uefi", "UEFI variables in a file"),
    (extra("-drive", "file=/v.fd,if=pflash,readonly=off"), "uefi", "UEFI variables in a file"),
    (config_with(vtpms=[{"backend_domid": 0}]), "vtpm", "a vTPM, whose state another domain keeps"),
    (extra("-drive", "if=pflash,file=/var/vars.fd"), "uefi", "UEFI variables in a file"),
    (hvm(nvram="/var/vars.fd"), "uefi", "UEFI variables in a file (b_info.type.hvm.nvram=/var/va"),
]


@pytest.mark.parametrize(("guest", "what", "text"), CASES, ids=lambda value: str(value)[:30])
def test_each_is_refused_by_its_name(guest, what, text):
    found = list(outside_state(DEFAULT_TRUST, guest))
    assert {each.what for each in found} == {what}
    assert all(each.severity is Severity.REFUSAL for each in found)
    assert f"sample has {text}" in found[0].text
    assert found[0].hint.startswith("detach it first")


@pytest.mark.parametrize(
    "guest",
    [
        config_with(),
        hvm(bios="ovmf"),  # its variables are in the guest's memory
        hvm(usbdevice="tablet", usbdevice_list=["mouse"], gfx_passthru="False"),
        extra("-drive", "if=pflash,readonly=on,file=/usr/share/OVMF/OVMF_CODE.fd"),
        extra("-drive", "file=/srv/vfio-images/tpm-tis/mdev,if=none,readonly=on"),
        config_with(pcidevs=[], vtpms=[]),
        config_with(pcidevs=[{"bus": 3}], vtpms=[{}], xenqemu={"host": "lab"}),
    ],
    ids=range(7),
)
def test_what_is_in_the_save_file_or_does_not_exist(guest):
    assert list(outside_state(DEFAULT_TRUST, guest)) == []


def test_what_is_allowed_is_warned_of():
    guest = config_with(pcidevs=[{"bus": 3}, {"bus": 4}])
    found = list(outside_state(Trust(("pcidevs=0000:03:*",)), guest))
    assert [each.severity for each in found] == [Severity.WARNING, Severity.REFUSAL]
    assert "0000:03:00.0), whose state no save file holds; [trust] in" in str(found[0])


def test_all_at_once():
    guest = config_with(pcidevs=[{"bus": 3}], vtpms=[{}], b_info={"type.hvm": {"nvram": "/v"}})
    found = [each.what for each in outside_state(DEFAULT_TRUST, guest)]
    assert sorted(found) == ["passthrough", "uefi", "vtpm"]
