"""What all parties say of a domain: a real xenstored, real QMP, and a hypervisor that we steer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import running
from xenqemu.errors import HostError, HypervisorError
from xenqemu.host.domain_state import DomainState, find, require_running, state
from xenqemu.host.protocol import DomainInfo, RunState
from xenqemu.host.qemu.device_model import DeviceModel
from xenqemu.host.xenstore.store import Store
from xenqemu.lab.reference_device_model import ReferenceDeviceModel
from xenqemu.lab.reference_device_model import RunState as Status

INFO = DomainInfo(3, "9233e52c-49ca-454f-96be-f53e22f3994d", RunState.RUNNING, 1 << 28, 1)


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
        store.write("/local/domain/4/name", "3")
        store.write("/local/domain/5", "")
        store.write("/local/domain/x/name", "none")
        yield party


@pytest.fixture
def device_model(host) -> Iterator[ReferenceDeviceModel]:
    with ReferenceDeviceModel(host.qmp, state=Status.RUNNING) as model:
        yield model


def test_find_by_name_and_by_id(host):
    assert find(host, "web") == 3
    assert find(host, "3") == 3  # an id goes before a name, as in xl
    host.said = None
    assert find(host, "3") == 4
    assert find(host, "web") == 3  # what is left of it may be asked for


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
    assert require_running(host, 3) == now


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
        require_running(host, 3)


def test_a_device_model_that_stands_still(host, device_model):
    device_model.model.machine.state = Status.PAUSED
    now = state(host, 3)
    assert (now.device_model, now.running) == ("paused", False)


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
    assert state(host, 3).trouble == ("hypervisor: Xen is gone", store)
