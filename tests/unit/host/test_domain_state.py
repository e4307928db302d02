"""What all parties say of a domain: a real xenstored, real QMP, and a hypervisor that we steer."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import running
from xenqemu.errors import DeviceModelError, HostError, HypervisorError
from xenqemu.host.domain import Domain, DomainInfo, RunState
from xenqemu.host.domain_state import (
    DomainState,
    find,
    identity,
    require_running,
    state,
    state_and_device_model,
)
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.reference_device_model import QemuRunState as Status
from xenqemu.lab.reference_device_model import ReferenceDeviceModel, faults

INFO = DomainInfo(3, "9233e52c-49ca-454f-96be-f53e22f3994d", RunState.RUNNING, 1 << 28, 1)
WEB = Domain(3, INFO.uuid, "web", "hvm")


class Party:
    """Host and hypervisor at once: domain 3 alone is there, and `info` is said of it."""

    kind = "test"

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "xenstored"
        self.qmp: Path | None = folder / "qmp"
        self.said: DomainInfo | HypervisorError | None = INFO

    @property
    def hypervisor(self) -> "Party":
        return self

    def info(self, domid: int) -> DomainInfo | None:
        if isinstance(self.said, HypervisorError):
            raise self.said
        return self.said if domid == INFO.domid else None

    def store(self) -> Store:
        return Store(self.socket)

    def device_model(self, domid: int) -> DeviceModel | None:
        return DeviceModel(self.qmp) if self.qmp else None


@pytest.fixture
def host(tmp_path) -> Iterator[Party]:
    party = Party(tmp_path)
    with running(party.socket), party.store() as store:
        store.write("/local/domain/0/name", "Domain-0")
        store.write("/local/domain/3/name", "web")
        store.write("/local/domain/3/vm", f"/vm/{INFO.uuid}")
        store.write("/libxl/3/type", "hvm")
        store.write("/local/domain/4/name", "3")
        store.write("/local/domain/5", "")
        store.write("/local/domain/x/name", "none")
        yield party


@pytest.fixture
def device_model(host) -> Iterator[ReferenceDeviceModel]:
    with ReferenceDeviceModel(host.qmp, state=Status.RUNNING) as model:
        yield model


def test_find_by_name_and_by_id(host):
    assert find(host, "web") == WEB
    assert find(host, "3") == WEB  # an id goes before a name, as in xl
    host.said = None
    assert find(host, "3") == Domain(4, "", "3", "")
    assert find(host, "web") == WEB  # what is left of it may be asked for


def test_who_a_domain_is_without_a_path_in_xenstore(host):
    with host.store() as store:
        store.remove("/local/domain/3/vm")
        store.remove("/libxl")
    assert find(host, "web") == identity(host, 3) == Domain(3, INFO.uuid, "web", "")


@pytest.mark.parametrize(
    "who", ["", "0", "Domain-0", "5", "nobody", "none", "-3", "3.0", "³", "9" * 5000]
)
def test_find_nobody(host, who):
    with pytest.raises(HostError, match="there is no domain"):
        find(host, who)


def test_all_parties_agree(host, device_model):
    now = state(host, 3)
    assert now == DomainState(3, "web", INFO, "running")
    assert now.running
    assert str(now) == "hypervisor: running; name in xenstore: web; device model: running"
    assert require_running(host, WEB) == now


def test_another_domain_of_the_same_id(host, device_model):
    other = replace(WEB, uuid="00000000-e6df-11f1-a061-0df29b9903a9")
    with pytest.raises(HostError, match=r"domain 3 is no longer web \(00000000-.*\)"):
        require_running(host, other)
    assert require_running(host, replace(WEB, uuid=WEB.uuid.upper())).running


def test_a_guest_without_a_device_model(host):
    host.qmp = None
    now = state(host, 3)
    assert now.running
    assert str(now) == "hypervisor: running; name in xenstore: web"


@pytest.mark.parametrize("run_state", [each for each in RunState if each is not RunState.RUNNING])
def test_a_guest_that_does_not_run(host, device_model, run_state):
    host.said = DomainInfo(3, INFO.uuid, run_state, 1 << 28, 1)
    assert not state(host, 3).running
    with pytest.raises(
        HostError, match=rf"domain 3 is not running \(hypervisor: {run_state.value}"
    ):
        require_running(host, WEB)


def test_a_device_model_that_hangs(host, device_model):
    device_model.model.machine.state = Status.PAUSED
    now = state(host, 3)
    assert (now.device_model, now.running) == ("paused", False)


def test_the_device_model_is_asked_more_in_the_same_session(host, device_model):
    with state_and_device_model(host, 3) as (now, asked):
        assert now.running
        assert asked.blockers() == []
    assert [name for name, _ in device_model.seen].count("qmp_capabilities") == 1
    with pytest.raises(DeviceModelError, match="the connection is not open"):
        asked.status()


@pytest.mark.parametrize("fault", [None, faults.reply_lost])
def test_a_device_model_that_did_not_answer_is_not_asked_more(host, device_model, fault):
    if fault:
        device_model.faults["query-status"] = fault
    else:
        host.qmp = host.qmp.with_name("nobody")
    with state_and_device_model(host, 3) as (now, asked):
        assert asked is None
        assert now.trouble[0].startswith("device model: ")


def test_no_such_domain(host):
    now = state(host, 9)
    assert now == DomainState(9, "", None, "")
    assert not now.running
    assert str(now) == "hypervisor: no such domain; name in xenstore: none"


def test_parties_that_cannot_answer_are_part_of_the_state(host):
    host.socket = host.socket.with_name("nobody")
    now = state(host, 3)
    assert (now.info, now.name, now.device_model) == (INFO, "", "")
    store, device_model = now.trouble
    assert store.startswith("xenstore: cannot connect to xenstored at ")
    assert device_model.startswith("device model: ")
    assert str(now).endswith(f"; {store}; {device_model}")
    assert not now.running
    host.said = HypervisorError("Xen is gone")
    now = state(host, 3)
    assert now.trouble == ("hypervisor: Xen is gone", store)
    assert str(now) == f"hypervisor: Xen is gone; name in xenstore: none; {store}"
