"""A Xen host put together: a fake Xen, a real xenstored, real processes beside it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.doubles.system.processes import posing
from tests.doubles.xen.fake_xen import UUID_OF_ALL, FakeLibraries, Guest
from tests.doubles.xen.guest_parts import DOMID, HOME
from tests.doubles.xen.xl_peer import CONFIG, DESTROY, SETUP, record, write_xl
from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.stream.libxc_records import CpuidLeaf
from xenqemu.formats.stream.source import Source
from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import find
from xenqemu.host.findings import require
from xenqemu.host.guest_memory import GuestMemory
from xenqemu.host.memory.pages import image_space
from xenqemu.host.protocol import BuildOptions, Needs
from xenqemu.host.qemu import emulator
from xenqemu.host.xen import requirements
from xenqemu.host.xen import xen_host as host_module
from xenqemu.host.xen.library import Xen
from xenqemu.host.xen.memory.helper_memory import HelperMemory
from xenqemu.host.xen.xen_host import XenHost
from xenqemu.host.xen.xen_paths import XenPaths
from xenqemu.host.xen.xl import qmp_socket
from xenqemu.host.xen.xl.libxl_locks import locked, userdata_path
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.reference_device_model import QemuRunState, ReferenceDeviceModel
from xenqemu.operations.journal.folder import Journals
from xenqemu.operations.journal.log import About

UUID = str(UUID_OF_ALL)


@pytest.fixture
def opened(libraries: FakeLibraries, monkeypatch: pytest.MonkeyPatch) -> list[Xen]:
    """All interfaces of Xen that a host has opened."""
    all_of_them: list[Xen] = []

    def make() -> Xen:
        all_of_them.append(Xen(libraries=libraries))
        return all_of_them[-1]

    monkeypatch.setattr(host_module, "Xen", make)
    return all_of_them


@pytest.fixture
def host(opened: list[Xen], path: Path, tmp_path: Path) -> XenHost:
    return XenHost(paths=XenPaths(tmp_path, path, tmp_path / "operations"))


def named(store: Store, domid: int, name: str = "", vm: str = "") -> None:
    """Have xenstore tell of a domain, as far as libxl has come with it."""
    store.mkdir(f"/local/domain/{domid}")
    for node, value in (("name", name), ("vm", vm)):
        if value:
            store.write(f"/local/domain/{domid}/{node}", value)


def test_operations_are_journaled_where_the_administrator_says(
    host: XenHost, tmp_path: Path
) -> None:
    log = Journals(host.journals).begin(About("save", 7, "g", UUID, "/f"), lambda _other: False)
    (found,) = Journals(host.journals).found()
    assert found.path == tmp_path / "operations" / "1.op"
    log.close()


def test_domains_of_a_name_and_uuid(host: XenHost, store: Store) -> None:
    named(store, 1, "guest", f"/vm/{UUID}")
    named(store, 2, "guest", "/vm/another")
    named(store, 3, "other", f"/vm/{UUID}")
    named(store, 4, "guest")  # so far, it might be anybody's
    named(store, 5)
    named(store, 66, "guest", f"/vm/{UUID}")
    assert sorted(host.domids_of("guest", UUID)) == [1, 66]
    assert host.domids_of("nobody", UUID) == []


def test_no_domains_at_all(host: XenHost, store: Store) -> None:
    store.remove("/local/domain")
    assert host.domids_of("guest", UUID) == []


def test_rivals_are_found_by_name_and_by_id(host: XenHost, store: Store, tmp_path: Path) -> None:
    named(store, DOMID, "guest-under-test")
    another = Domain(12345, UUID, "another-under-test", "pv")
    words = ("xl", "save", "guest-under-test", "/nowhere")
    with posing(*words, folder=tmp_path) as xl:
        assert host.concurrent_toolstacks(find(host, "guest-under-test")) == [
            f"process {xl.pid} ({' '.join(words)})"
        ]
        assert host.concurrent_toolstacks(another) == []
    words = ("xl", "destroy", "12345")
    with posing(*words, folder=tmp_path) as xl:
        assert host.concurrent_toolstacks(another) == [f"process {xl.pid} (xl destroy 12345)"]
    assert (
        host.concurrent_toolstacks(Domain(54321, UUID, "", "")) == []
    )  # xenstore does not know it


def test_space_for_a_pv_guest_is_that_of_the_pages_it_has(host: XenHost, guest: Guest) -> None:
    guest.flags = 0
    guest.pages = dict.fromkeys(range(300), b"")
    memory: GuestMemory = host.hypervisor.memory(DOMID)
    assert isinstance(memory, HelperMemory)
    assert memory.space() == image_space(300)
    guest.pages[300] = b""
    assert memory.space() == image_space(301)


def test_space_for_a_pv_guest_that_is_gone(
    host: XenHost, guest: Guest, libraries: FakeLibraries
) -> None:
    guest.flags = 0
    memory = host.hypervisor.memory(DOMID)
    libraries.guests.clear()
    with pytest.raises(HostError, match="there is no domain 7"):
        memory.space()


def test_a_domain_is_renamed(host: XenHost, store: Store) -> None:
    named(store, DOMID, "one", f"/vm/{UUID}")
    for _again in range(2):
        host.rename(DOMID, "one", "two")
        assert store.read(f"{HOME}/name") == "two"


@pytest.mark.parametrize("kind", ["pv", "pvh", None])
def test_only_hvm_guests_have_a_device_model(
    host: XenHost, guest: Guest, store: Store, kind: str | None
) -> None:
    if kind:
        store.write(f"/libxl/{DOMID}/type", kind)
    assert host.device_model(DOMID) is None
    store.write(f"/libxl/{DOMID}/type", "hvm")
    assert host.device_model(DOMID) is not None


def test_it_may_be_used_again_once_closed(
    host: XenHost, guest: Guest, opened: list[Xen], libraries: FakeLibraries
) -> None:
    host.close()
    assert opened == []  # none was needed yet
    for times in (1, 2):
        assert host.hypervisor.info(DOMID) is not None
        assert host.hypervisor.info(DOMID) is not None
        assert len(opened) == times
        host.close()
        assert libraries.calls[-1] == "xc_interface_close"
        host.close()
        assert libraries.calls.count("xc_interface_close") == times


# What the programs of libxl do for it, as far as `xl` is a script here.

NEEDS = Needs(CONFIG, 3)


def admit(host: XenHost, needs: Needs) -> None:
    require(host.findings(needs, quick=True), "no")


@pytest.fixture
def xl(tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that puts an xl where it is looked for."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("XENSTORED_PATH", str(path))
    return lambda *parts: write_xl(tmp_path / "bin" / "xl", *parts) and None


def test_a_guest_whose_name_and_uuid_are_free_is_admitted(host: XenHost, store: Store) -> None:
    named(store, 3, "other", "/vm/other")
    admit(host, NEEDS)
    named(store, 4, CONFIG.name)
    with pytest.raises(HostError, match="^domain 4 is named g1 already$"):
        admit(host, NEEDS)
    named(store, 4, "g2", f"/vm/{CONFIG.uuid}")
    with pytest.raises(HostError, match=rf"^domain 4 \(g2\) has the uuid {CONFIG.uuid}$"):
        admit(host, NEEDS)
    named(store, 4, CONFIG.name, f"/vm/{CONFIG.uuid}")
    with pytest.raises(HostError, match="^domain 4 is named g1 already$"):
        admit(host, NEEDS)
    admit(host, replace(NEEDS, moving=True))  # it is itself, on its way


def test_a_guest_gets_the_id_it_asks_for_only_where_libxl_gives_it(
    host: XenHost, guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit(host, Needs(CONFIG.with_domid(9), 3))
    with pytest.raises(HostError, match=f"the id {DOMID}, which another domain has$"):
        admit(host, Needs(CONFIG.with_domid(DOMID), 3))
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    (tmp_path / "domid-history").write_text("990 9\n")
    admit(host, Needs(CONFIG.with_domid(10), 3))
    with pytest.raises(HostError, match="the id 9, whose domain ended .* another one in 51 s$"):
        admit(host, Needs(CONFIG.with_domid(9), 3))
    for anyone in (0, 0x7FF0, 0xFFFFFFFF):
        admit(host, Needs(CONFIG.with_domid(anyone), 3))


@pytest.fixture
def poor(
    libraries: FakeLibraries, xl: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host without memory, whose QEMU has one device."""
    libraries.guests[0] = Guest()
    xl("print('free_memory            : 0')")
    monkeypatch.setattr(requirements, "QEMUS", ("/bin/true",))
    monkeypatch.setattr(emulator, "devices", lambda _program: {"e1000"})


@pytest.mark.usefixtures("poor")
def test_every_reason_against_a_guest_the_slow_ones_last(host: XenHost, store: Store) -> None:
    named(store, 4, "other", f"/vm/{CONFIG.uuid}")
    c_info = {**CONFIG.tree["c_info"], "type": "hvm"}
    b_info = {**CONFIG.tree["b_info"], "max_memkb": 1 << 30, "type.hvm": {"vga": {"kind": "std"}}}
    disks = [{"pdev_path": "/nowhere/a", "vdev": "xvda", "format": "raw", "readwrite": 1}]
    guest = DomainConfig({"c_info": c_info, "b_info": b_info, "disks": disks})
    needs = Needs(guest, 9, cpuid=(CpuidLeaf(7, 0, 0, 1 << 16, 0, 0),))
    found = list(host.findings(needs))
    assert [each.what for each in found] == ["xen", "disks", "name", "cpu", "memory", "devices"]
    assert found[3].text.endswith("lacks: CPUID 7.0 ebx bit 16 (avx512f)")
    quick = list(host.findings(needs, quick=True))
    assert [each.text for each in quick] == [each.text for each in found[:3]]


def test_the_configuration_is_what_xl_lists(
    host: XenHost, guest: Guest, xl: Callable[..., None]
) -> None:
    listed = [{"domid": DOMID, "config": CONFIG.tree}]
    xl(f"assert words == ['list', '-l', '{DOMID}']; print(json.dumps({listed!r}))")
    assert host.config(DOMID) == CONFIG
    with pytest.raises(HostError, match="there is no domain 8"):
        host.config(8)


def test_domains_are_built_and_destroyed_by_xl(
    host: XenHost, store: Store, xl: Callable[..., None], tmp_path: Path
) -> None:
    xl(DESTROY, SETUP, f"data.readall(); open('{tmp_path}/words', 'w').write(str(words)); make()")
    data = record()
    steps: list[int] = []
    options = BuildOptions(len(data), monitor=False)
    domid = host.build(Source.of(data), lambda done, _total: steps.append(done), options)
    assert domid == 5
    assert steps[-1] == len(data)
    assert "'-e'" in (tmp_path / "words").read_text()
    host.destroy(domid)
    assert store.read("/local/domain/5/name") is None


def test_the_device_model_is_had_under_libxls_lock(
    host: XenHost, guest: Guest, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(f"/libxl/{DOMID}/type", "hvm")
    monkeypatch.setattr(qmp_socket, "locked", partial(locked, folder=tmp_path))
    lock = userdata_path(DOMID, UUID, "qmp-socket-lock", "l", tmp_path)
    model = ReferenceDeviceModel(tmp_path / f"qmp-libxl-{DOMID}", state=QemuRunState.PRELAUNCH)
    device_model = host.device_model(DOMID)
    assert device_model is not None
    with model:
        for _again in range(2):
            with device_model:
                assert lock.exists()
                assert device_model.status() == "prelaunch"
            assert not lock.exists()
    with pytest.raises(HostError), device_model:
        pytest.fail("nobody answers")
    assert not lock.exists()
