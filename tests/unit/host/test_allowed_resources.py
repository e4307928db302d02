"""Which resources of the host a config may name, and what the settings allow beyond that."""

import os
import socket

import pytest

from tests.doubles.in_memory.save_files import config, config_with
from xenqemu.errors import Forbidden
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.host.allowed_resources import refusals, require_allowed
from xenqemu.host.trust import DEFAULT_TRUST, Trust


def refused(what: DomainConfig, *allow: str) -> list[str]:
    return [str(each.resource) for each in refusals(Trust(allow), what)]


def why(what: DomainConfig) -> list[str]:
    return [each.why for each in refusals(DEFAULT_TRUST, what)]


def disk(**fields: object) -> DomainConfig:
    return config_with(disks=[{"vdev": "hda", "format": "raw", **fields}])


def nic(**fields: object) -> DomainConfig:
    return config_with(nics=[{"devid": 0, **fields}])


def hvm(**fields: object) -> DomainConfig:
    return config_with(b_info={"type.hvm": fields})


def build(**fields: object) -> DomainConfig:
    return config_with(b_info=fields)


ORDINARY = [
    config(),
    disk(pdev_path="/srv/web.img", readwrite=1),
    disk(pdev_path="", is_cdrom=1),
    disk(pdev_path="/usr/share/virtio-win/virtio-win.iso", is_cdrom=1),
    disk(pdev_path="/dev/no-such-vg/web", script="block", readwrite=1),
    disk(pdev_path="no-such-vg/web", readwrite=1),
    disk(pdev_path="/srv/web.img", script="/etc/xen/scripts/xenqemu-block"),
    disk(pdev_path="/srv/web.img", backend_domid=0, backend_domname="Domain-0"),
    nic(bridge="xenbr0", script="vif-bridge", model="e1000", mac="00:16:3e:00:00:01"),
    nic(bridge="br0.10", script="vif-openvswitch", ifname="web0"),
    nic(script="vif-route", gatewaydev="eth0", ip="10.0.0.2 10.0.1.0/24 fe80::1"),
    build(bootloader="pygrub"),
    build(bootloader="/usr/lib/xen-4.17/bin/pygrub"),
    build(device_model="/usr/libexec/xen/bin/qemu-system-i386", device_model_user="root"),
    build(kernel="/boot/vmlinuz", ramdisk="/boot/initrd.img", cmdline="-anything /etc/shadow"),
    build(kernel="/no/such/kernel"),
    build(kernel="/usr/lib/grub-xen/grub-x86_64-xen.bin"),
    build(stubdomain_kernel="/usr/lib/xen/boot/ioemu-stubdom.gz"),
    build(**{"type.pvh": {"pvshim": "True", "pvshim_path": "/usr/lib/xen-4.17/boot/xen-shim"}}),
    hvm(firmware="hvmloader", system_firmware="/usr/share/ovmf/OVMF.fd"),
    hvm(serial_list=["pty", "none"], usbdevice_list=["tablet"], boot="dc", soundhw="hda"),
    hvm(serial="file:/var/log/xen/web.serial"),
    hvm(vnc={"enable": "True", "listen": "0.0.0.0:1", "passwd": "any,thing"}, keymap="en-us"),
    hvm(spice={"host": "[::1]", "passwd": "secret"}),
    build(later=17, other=True, another="True", none={}),
]  # fmt: skip


@pytest.mark.parametrize("what", ORDINARY)
def test_what_stock_xen_writes_for_ordinary_guests_is_allowed(what):
    assert refused(what) == []


REFUSED = [
    (build(bootloader="/tmp/x"), "b_info.bootloader=/tmp/x"),
    (build(bootloader="/usr/lib/xen/bin/../../../../tmp/x"),
     "b_info.bootloader=/usr/lib/xen/bin/../../../../tmp/x"),
    (build(bootloader="pygrub", bootloader_args=["--output-directory=/etc"]),
     "b_info.bootloader_args=--output-directory=/etc"),
    (build(**{"type.pv": {"bootloader": "sh"}}), "b_info.type.pv.bootloader=sh"),
    (build(device_model="/bin/sh"), "b_info.device_model=/bin/sh"),
    (build(device_model_user="postgres"), "b_info.device_model_user=postgres"),
    (build(extra=["-monitor"]), "b_info.extra=-monitor"),
    (build(extra_hvm=["x"]), "b_info.extra_hvm=x"),
    (build(kernel="/etc/hostname"), "b_info.kernel=/etc/hostname"),
    (build(ramdisk="/proc/kcore"), "b_info.ramdisk=/proc/kcore"),
    (build(ramdisk="/boot/../etc/hostname"), "b_info.ramdisk=/boot/../etc/hostname"),
    (build(kernel="vmlinuz"), "b_info.kernel=vmlinuz"),
    (build(device_tree="/etc/x"), "b_info.device_tree=/etc/x"),
    (build(stubdomain_ramdisk="/tmp/x"), "b_info.stubdomain_ramdisk=/tmp/x"),
    (hvm(firmware="/tmp/hvmloader"), "b_info.type.hvm.firmware=/tmp/hvmloader"),
    (hvm(acpi_firmware="/etc/x"), "b_info.type.hvm.acpi_firmware=/etc/x"),
    (hvm(serial="tcp:10.0.0.1:4444"), "b_info.type.hvm.serial=tcp:10.0.0.1:4444"),
    (hvm(serial_list=["pty", "mon:pty"]), "b_info.type.hvm.serial_list=mon:pty"),
    (hvm(serial="file:/etc/cron.d/x"), "b_info.type.hvm.serial=file:/etc/cron.d/x"),
    (hvm(serial="file:/var/log/xen/../../x"), "b_info.type.hvm.serial=file:/var/log/xen/../../x"),
    (hvm(serial="file:/var/log/xen/a,b"), "b_info.type.hvm.serial=file:/var/log/xen/a,b"),
    (hvm(serial="/dev/ttyS0"), "b_info.type.hvm.serial=/dev/ttyS0"),
    (hvm(usbdevice="host:1234:5678"), "b_info.type.hvm.usbdevice=host:1234:5678"),
    (hvm(usbdevice_list=["disk:/etc/shadow"]), "b_info.type.hvm.usbdevice_list=disk:/etc/shadow"),
    (hvm(vnc={"listen": "unix:/etc/x"}), "b_info.type.hvm.vnc.listen=unix:/etc/x"),
    (hvm(vnc={"listen": "unix:x"}), "b_info.type.hvm.vnc.listen=unix:x"),
    (hvm(vnc={"listen": "::1,tls-creds=x"}), "b_info.type.hvm.vnc.listen=::1,tls-creds=x"),
    (hvm(spice={"passwd": "a,tls-channel=x"}), "b_info.type.hvm.spice.passwd=***"),
    (hvm(sdl={"xauthority": "/root/.Xauthority\0"[:-1] + "/../x"}),
     "b_info.type.hvm.sdl.xauthority=/root/.Xauthority/../x"),
    (hvm(keymap="../../x"), "b_info.type.hvm.keymap=../../x"),
    (hvm(boot="c,menu=on"), "b_info.type.hvm.boot=c,menu=on"),
    (hvm(soundhw="-x"), "b_info.type.hvm.soundhw=-x"),
    (hvm(gfx_passthru="True"), "b_info.type.hvm.gfx_passthru=True"),
    (nic(model="e1000,romfile=/etc/shadow"), "nics.model=e1000,romfile=/etc/shadow"),
    (nic(script="/tmp/vif-bridge"), "nics.script=/tmp/vif-bridge"),
    (nic(script="../../../tmp/x"), "nics.script=../../../tmp/x"),
    (nic(script="launch-xenstore"), "nics.script=launch-xenstore"),
    (nic(ifname="-n"), "nics.ifname=-n"),
    (nic(bridge="a;reboot"), "nics.bridge=a;reboot"),
    (nic(ip="$(reboot)"), "nics.ip=$(reboot)"),
    (nic(backend_domid=3), "nics.backend_domid=3"),
    (nic(colo_sock_mirror_ip="10.0.0.1"), "nics.colo_sock_mirror_ip=10.0.0.1"),
    (disk(script="/tmp/x", pdev_path="/a"), "disks.script=/tmp/x"),
    (disk(backend_domname="storage"), "disks.backend_domname=storage"),
    (disk(pdev_path="/etc/shadow"), "disks.pdev_path=/etc/shadow"),
    (disk(pdev_path="/usr/share/x.iso", readwrite=1), "disks.pdev_path=/usr/share/x.iso"),
    (disk(pdev_path="/usr/bin/env"), "disks.pdev_path=/usr/bin/env"),
    (disk(pdev_path="/home/a/.ssh/id_rsa"), "disks.pdev_path=/home/a/.ssh/id_rsa"),
    (build(kernel="/root/.gnupg/x/y"), "b_info.kernel=/root/.gnupg/x/y"),
    (disk(pdev_path="/boot/vmlinuz", readwrite=1), "disks.pdev_path=/boot/vmlinuz"),
    (disk(pdev_path="/srv/../etc/shadow"), "disks.pdev_path=/srv/../etc/shadow"),
    (disk(pdev_path="/dev/null"), "disks.pdev_path=/dev/null"),
    (disk(pdev_path="/dev/no-such-vg/../../etc/x"), "disks.pdev_path=/dev/no-such-vg/../../etc/x"),
    (disk(pdev_path="/srv/a,driver=x"), "disks.pdev_path=/srv/a,driver=x"),
    (disk(pdev_path="nbd:host:10809"), "disks.pdev_path=nbd:host:10809"),
    (disk(pdev_path='json:{"driver":"x"}'), 'disks.pdev_path=json:{"driver":"x"}'),
    (disk(pdev_path="-x"), "disks.pdev_path=-x"),
    (disk(pdev_path="iqn=a", script="block-iscsi"), "disks.pdev_path=iqn=a"),
    (disk(pdev_path="/var/lib/xen/save/mail"), "disks.pdev_path=/var/lib/xen/save/mail"),
    (disk(hidden_disk="/srv/x"), "disks.hidden_disk=/srv/x"),
    (config_with(pcidevs=[{"bus": 3}]), "pcidevs=0000:03:00.0"),
    (config_with(dtdevs=[{"path": "/soc/x"}]), "dtdevs.path=/soc/x"),
    (config_with(usbdevs=[{"type.hostdev": {"hostbus": 1, "hostaddr": 2}}]),
     "usbdevs=hostbus=1,hostaddr=2"),
    (config_with(p9s=[{"tag": "t", "path": "/srv"}]), "p9s.path=/srv"),
    (config_with(pvcallsifs=[{"devid": 1}]), "pvcallsifs=pvcalls 1"),
    (config_with(channels=[{"connection.socket": {"path": "/x"}}]),
     "channels.connection.socket.path=/x"),
    (config_with(c_info={"xsdata": {"console/output": "pipe:/x"}}),
     "c_info.xsdata.console/output=pipe:/x"),
    (config_with(c_info={"ssid_label": "a:b:c"}), "c_info.ssid_label=a:b:c"),
    (config_with(c_info={"driver_domain": True}), "c_info.driver_domain=True"),
    (build(irqs=[0]), "b_info.irqs=0"),
    (build(later="/x"), "b_info.later=/x"),
    (build(later=[1]), "b_info.later=[1]"),
    (config_with(laters=[{"path": "/x"}]), 'laters=[{"path": "/x"}]'),
]  # fmt: skip


@pytest.mark.parametrize(("what", "line"), REFUSED)
def test_what_lets_root_do_more_is_refused_and_can_be_allowed(what, line):
    assert refused(what) == [line]
    key, _, value = line.partition("=")
    if value == "***":
        value = "a,tls-channel=x"
    assert refused(what, f"{key}={value}") == []
    assert refused(what, f"{key}={value}x", f"{key}x={value}", value) == [line]


def test_a_pattern_allows_any_characters_but_no_way_out_of_a_folder():
    assert refused(disk(pdev_path="/etc/x/a[1]?"), "disks.pdev_path=/etc/x/*") == []
    assert refused(disk(pdev_path="/etc/x/a"), "*") == []
    assert refused(disk(pdev_path="/etc/x/b"), "disks.pdev_path=/etc/x/[b]") != []
    assert refused(disk(pdev_path="/etc/x/b"), "disks.pdev_path=/etc/x/?") != []
    assert refused(disk(pdev_path="/etc/x/../b"), "disks.pdev_path=/etc/x/*") != []
    assert refused(hvm(serial="file:/srv/x/../b"), "b_info.type.hvm.serial=file:/srv/x/*") != []


def test_a_file_for_the_guest_is_one_that_everyone_may_read(tmp_path):
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"")
    kernel.chmod(0o644)
    assert why(build(kernel=str(kernel))) == []
    kernel.chmod(0o640)
    assert why(build(kernel=str(kernel))) == ["not everyone may read it"]
    os.mkfifo(tmp_path / "fifo", 0o644)
    assert why(build(kernel=str(tmp_path / "fifo"))) == ["not a file"]
    assert why(build(kernel=str(tmp_path))) == ["not a file"]


def test_a_link_is_what_it_leads_to(tmp_path):
    (tmp_path / "kernel").symlink_to("/etc/hostname")
    (tmp_path / "disk").symlink_to("/etc/hostname")
    assert why(build(kernel=str(tmp_path / "kernel"))) == ["a file of this host, in /etc"]
    assert why(disk(pdev_path=str(tmp_path / "disk"))) == ["a file of this host, in /etc"]


def test_a_disk_is_a_file_or_a_block_device(tmp_path):
    (tmp_path / "image").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    assert why(disk(pdev_path=str(tmp_path / "image"), readwrite=1)) == []
    for name in ("fifo", "socket", "."):
        found = why(disk(pdev_path=f"{tmp_path}/{name}"))
        assert found == ["neither a file nor a block device"]


def test_a_comma_is_part_of_a_name_where_no_command_line_has_it():
    comma = disk(pdev_path="/srv/a,b")
    assert why(comma) == ["a comma begins an option of QEMU's"]
    assert why(comma.with_extra({"host": "lab"})) == []
    pv = DomainConfig({**comma.tree, "c_info": {**comma.tree["c_info"], "type": "pv"}})
    assert why(pv) == []


def test_the_error_names_what_is_refused_up_to_a_bound():
    what = build(extra=[f"-x{number}" for number in range(20)])
    with pytest.raises(Forbidden) as caught:
        require_allowed(DEFAULT_TRUST, what, "; or do that")
    text = str(caught.value)
    assert text.startswith("the config of sample names what is not allowed here: b_info.extra=-x0 ")
    assert "b_info.extra=-x7 (an argument of a program); 12 more; [trust] in xenqemu.conf" in text
    assert text.endswith("can allow it; or do that")
    require_allowed(Trust(("b_info.extra=-x*",)), what)
