"""What the lab refuses before it builds anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import config
from xenqemu.errors import BadRecord, HostError, Refused, Unsupported, UsageError
from xenqemu.formats.config.domain_config import OURS, DomainConfig
from xenqemu.formats.config.xl_cfg import GuestConfig
from xenqemu.host.findings import Check, Finding, findings, refusals, require
from xenqemu.host.protocol import Needs
from xenqemu.host.qemu import emulator
from xenqemu.lab import admission
from xenqemu.lab.command_line import QEMU

GREETING = '{"QMP": {"version": {}, "capabilities": []}}'
MACHINES = (
    '{"return": [{"name": "pc-i440fx-7.2", "alias": "pc", "cpu-max": 255}, {"name": "none"}]}'
)


@pytest.fixture
def knows_machines(fake_qemu):
    fake_qemu(f"cat >/dev/null; echo '{GREETING}'; echo '{{\"return\": {{}}}}'; echo '{MACHINES}'")


def checked(guest: DomainConfig) -> list[Finding]:
    checks: tuple[Check, ...] = (
        ("guest", lambda: admission.check(guest)),
        ("disks", lambda: admission.check_files(guest)),
    )
    return list(findings(checks))


def found(guest: DomainConfig) -> list[str]:
    return [str(each) for each in checked(guest)]


def changed(**b_info: object) -> DomainConfig:
    tree = config().tree
    return DomainConfig({**tree, "b_info": {**tree["b_info"], **b_info}})


def test_a_guest_that_can_run_is_admitted(knows_machines, tmp_path):
    kernel = tmp_path / "kernel"
    kernel.touch()
    guest = config(f'kernel = "{kernel}"\ndisk = ["{kernel},raw,hda,w", ",,hdc,cdrom"]')
    assert found(guest) == []


def test_what_qemu_lists(knows_machines):
    assert emulator.machines(QEMU) == {"pc-i440fx-7.2": "pc", "none": ""}
    assert admission.default_machine() == "pc-i440fx-7.2"


def test_a_guest_of_xen(fake_qemu):
    fake_qemu("exit 9")
    xens = GuestConfig.from_cfg('name = "x"\ntype = "hvm"').config
    assert found(xens) == ["x is a guest of Xen: the lab cannot run it"]


@pytest.mark.parametrize("kind", ["pv", "pvh"])
def test_a_guest_of_another_type(kind):
    tree = config().tree
    other = DomainConfig({**tree, "c_info": {**tree["c_info"], "type": kind}})
    (error,) = refusals(checked(other))
    assert isinstance(error, Unsupported)
    assert f"expected a guest of type hvm, got {kind}" in str(error)


@pytest.mark.parametrize("memory", [0, 1, 8196, 1 << 43 | 4])
def test_memory_that_qemu_would_round(knows_machines, memory):
    (error,) = refusals(checked(changed(max_memkb=memory, target_memkb=memory)))
    assert isinstance(error, Unsupported)
    assert f"expected memory in multiples of 8 KiB, got {memory}" in str(error)


def test_devices_that_qemu_has_no_words_for():
    for text, why in (
        ('vga = "qxl"', "vga='qxl'"),
        ('disk = ["/dev/null,raw,sdz,w"]', "vdev='sdz'"),
    ):
        (error,) = refusals(checked(config(text)))
        assert isinstance(error, UsageError)
        assert why in str(error)


def test_no_hardware():
    (error,) = refusals(checked(DomainConfig({**config().tree, OURS: {"host": "lab"}})))
    assert isinstance(error, BadRecord)
    assert "machine and accel" in str(error)


def test_a_machine_of_another_qemu(knows_machines):
    (text,) = found(config(machine="pc-i440fx-99.1"))
    assert text.endswith("has no machine pc-i440fx-99.1, which small needs")


@pytest.mark.parametrize(
    "text",
    [
        'kernel = "/nowhere/vmlinuz"',
        'kernel = "/dev/null"\nramdisk = "/nowhere/vmlinuz"',
        'disk = ["/dev/null,raw,hda,w", "/nowhere/vmlinuz,raw,hdb,w"]',
    ],
)
def test_files_that_are_not_there(knows_machines, text):
    assert found(config(text)) == ["small needs /nowhere/vmlinuz, which cannot be read"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo broken >&2; exit 1", "does not list its machines: broken"),
        (f"echo '{GREETING}'", "does not list its machines: $"),
        (f"echo '{GREETING}'; echo '{{\"return\": {{}}}}'", "does not list its machines"),
        ("echo '{\"return\": {}}'; echo '{\"return\": []}'", "does not list its machines"),
        ("echo hello", "does not list its machines"),
        ("echo '[]'", "does not list its machines"),
        (r"printf '\377\n'", "does not list its machines"),
        ("exec sleep 60", "cannot ask .* timed out"),
    ],
)
def test_a_qemu_that_answers_otherwise(fake_qemu, monkeypatch, script, why):
    monkeypatch.setattr(emulator, "QUESTION_TIMEOUT", 0.5 if "sleep" in script else 20)
    fake_qemu(script)
    with pytest.raises(HostError, match=why):
        emulator.machines(QEMU)


def test_no_qemu(place, monkeypatch):
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(
        HostError, match="cannot ask qemu-system-x86_64 for its machines: .*No such"
    ):
        emulator.machines(QEMU)


def test_a_qemu_without_a_pc(fake_qemu):
    machines = '{"return": [{"name": "none"}, {"name": "q35", "alias": "pc-like"}]}'
    fake_qemu(f"echo '{GREETING}'; echo '{{\"return\": {{}}}}'; echo '{machines}'")
    with pytest.raises(HostError, match="has no machine pc$"):
        admission.default_machine()


def put(guests: Path, domid: int, text: str) -> None:
    folder = guests / str(domid)
    folder.mkdir()
    (folder / "config.json").write_bytes(config(text).dump())


OTHER = "0000abcd-0000-0000-0000-00000000000f"


def test_names_and_uuids_are_there_once(tmp_path):
    admission.require_free(config(), tmp_path)
    put(tmp_path, 3, f'name = "other"\nuuid = "{OTHER}"')
    (tmp_path / "4").mkdir()  # one whose maker died at once
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "config.json").symlink_to("nowhere")  # one that ends while we look
    admission.require_free(config(), tmp_path)
    with pytest.raises(HostError, match="domain 3 is named other already"):
        admission.require_free(config('name = "other"'), tmp_path)
    with pytest.raises(HostError, match=rf"domain 3 \(other\) has uuid {OTHER}"):
        admission.require_free(config(f'uuid = "{OTHER}"'), tmp_path)
    upper = config()
    tree = {**upper.tree, "c_info": {**upper.tree["c_info"], "uuid": OTHER.upper()}}
    with pytest.raises(HostError, match="has uuid"):
        admission.require_free(DomainConfig(tree), tmp_path)


DEVICES = 'name "ide-hd", bus IDE\nname "rtl8139", bus PCI'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ""),
        ('vif = [""]', ""),
        ('disk = ["/dev/null,raw,hda,w"]', ""),
        ('vif = ["model=e1000"]', "no device e1000, which small needs"),
        (
            'disk = ["/dev/null,raw,sda,w"]',
            "no device lsi53c895a, which small needs; no device scsi-hd, which small needs",
        ),
    ],
)
def test_devices_that_qemu_has(fake_qemu, text, why):
    fake_qemu(f"echo '{DEVICES}'")
    errors = [str(error) for error in admission.check_devices(Needs(config(text), 3))]
    assert errors == [f"{QEMU} here has {each}" for each in why.split("; ") if each]


def test_device_states_that_qemu_loads(fake_qemu):
    dump = '{"VGA": {"Description": {"name": "vga", "version_id": 2, "minimum_version_id": 1}}}'
    fake_qemu(f"case $* in *dump-vmstate*) echo '{dump}' ;; *) echo '{DEVICES}' ;; esac")
    for version, fits in ((0, False), (1, True), (2, True), (3, False)):
        errors = list(admission.check_devices(Needs(config(), 3, devices={"vga": version})))
        why = f"small has the state of vga in version {version}: {QEMU} loads 1 to 2"
        assert [str(error) for error in errors] == ([] if fits else [why])
    assert list(admission.check_devices(Needs(config(), 3, devices={"timer": 99}))) == []


def test_free_space_for_the_memory(tmp_path):
    admission.check_free_space(Needs(config(), 3), tmp_path)
    big = Needs(config("memory = 1048576"), 3)
    with pytest.raises(HostError, match=f"small needs 1048576 MiB: {tmp_path} has .* MiB free"):
        admission.check_free_space(big, tmp_path)
    admission.check_free_space(replace(big, data=4096), tmp_path)  # the rest is zeros
    with pytest.raises(HostError, match="small needs 1048576 MiB"):
        admission.check_free_space(replace(big, data=1 << 50), tmp_path)


def test_several_reasons_at_once(knows_machines, tmp_path):
    put(tmp_path, 3, 'name = "small"')
    guest = config('disk = ["/nowhere/a,raw,hda,w", "/nowhere/b,raw,hdb,w"]', machine="pc-9")
    checks = admission.checks(Needs(guest, 3), tmp_path, tmp_path, quick=True)
    every = list(findings(checks))
    assert [each.what for each in every] == ["guest", "disks", "disks", "name"]
    assert str(every[-1]) == "domain 3 is named small already"
    with pytest.raises(Refused, match="^no, for 4 reasons"):
        require(every, "no")


@pytest.mark.lab
def test_qemu_of_this_machine():
    machines = emulator.machines(QEMU)
    assert machines["none"] == ""
    default = admission.default_machine()
    assert default.startswith("pc-i440fx-")
    assert machines[default] == "pc"
    assert found(config(machine=default)) == []
