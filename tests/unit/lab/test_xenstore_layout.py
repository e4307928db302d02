"""A domain of the lab in xenstore beside one of a real Xen host."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.qemu.lab_guest import UUID, config
from tests.doubles.xen.xenstored import running, tool
from xenqemu.host.xenstore.store import Store
from xenqemu.lab import xenstore_layout
from xenqemu.lab.xenstore_layout import Running

GOLDEN = Path(__file__).parents[2] / "golden" / "xenstore-running.txt"
LINE = re.compile(r'(/\S+) = "(.*)"   \((.*)\)')
XEN_UUID = "c676d8ca-e6db-11f1-b3bc-a9acb8269001"

ONLY_XEN = re.compile(
    r"/@|/local/pool|/vm/[^/]+/rtc|/libxl/1/device|/local/domain/0/(backend|control)"
    r"|/local/domain/0/device-model/1/backends"
    r"|/local/domain/1/(console/(backend|port|ring-ref)|device/vkbd|hvmloader|platform|store)"
)
"""What needs Xen: rings, event channels, PV backends, pools, the firmware of Xen."""

GUESTS_OWN = re.compile(r"/local/domain/1/control/feature-(suspend|poweroff|reboot)")
"""What the guest's driver wrote its answer to."""

ONLY_LAB = {
    "/local/domain/1/image/device-model-domid",
    "/local/domain/1/serial",
    "/local/domain/1/serial/0",
    "/local/domain/1/serial/0/tty",
}
"""Written by libxl too, but not by 4.17 for a guest without a serial port."""


def nodes(text: str) -> dict[str, tuple[str, str]]:
    """Return (value, permissions) by path of what `xenstore-ls -f -p` printed."""
    return {path: (value, owner) for path, value, owner in map(parts, text.splitlines()) if path}


def parts(line: str) -> tuple[str, str, str]:
    found = LINE.fullmatch(line)
    assert found or not line, line
    return (found[1], found[2], found[3]) if found else ("", "", "")


@pytest.fixture
def path(tmp_path) -> Iterator[Path]:
    socket = tmp_path / "xs"
    with running(socket):
        yield socket


@pytest.fixture
def store(path) -> Iterator[Store]:
    with Store(path) as store:
        xenstore_layout.introduce_host(store)
        yield store


def listed(path: Path) -> dict[str, tuple[str, str]]:
    done = tool(path, "ls", "-f", "-p")
    assert done.returncode == 0, done.stderr
    return nodes(done.stdout)


def test_a_domain_is_laid_out_as_by_libxl(path, store):
    guest = config('name = "g1"\nmemory = 128\nserial = "pty"')
    xenstore_layout.introduce(store, guest, Running(1, 161, ("/dev/pts/0",), "1795396703.08"))
    ours = {p.replace(UUID, XEN_UUID): each for p, each in listed(path).items()}
    xens = nodes(GOLDEN.read_text())
    assert set(ours) - set(xens) == ONLY_LAB
    assert {each for each in set(xens) - set(ours) if not ONLY_XEN.match(each)} == set()
    for each in set(ours) & set(xens):
        assert ours[each][1] == xens[each][1], f"permissions of {each}"
    other = {each for each in set(ours) & set(xens) if ours[each][0] != xens[each][0]}
    assert {each for each in other if not GUESTS_OWN.match(each)} == {
        "/tool/xenstored",
        f"/vm/{XEN_UUID}/uuid",
        "/local/domain/1/vm",
        "/local/domain/1/console/type",
    }
    assert ours["/local/domain/1/vm"][0] == f"/vm/{UUID}"
    assert ours["/local/domain/1/serial/0/tty"] == ("/dev/pts/0", "n0,r1")


def test_vcpus_memory_and_ports(path, store):
    guest = config("memory = 16\nmaxmem = 32\nvcpus = 3\nmaxvcpus = 4")
    xenstore_layout.introduce(store, guest, Running(9, 5, (), "0"))
    home = store.tree("/local/domain/9")
    assert {
        name: value for name, value in home.items() if name.startswith(("cpu/", "memory/"))
    } == {
        **{f"cpu/{n}": "" for n in range(4)},
        **{f"cpu/{n}/availability": "online" for n in range(3)},
        "cpu/3/availability": "offline",
        "memory/static-max": "32768",
        "memory/target": "16384",
        "memory/videoram": "0",
    }
    assert not {"serial", "console/tty", "console/output"} & set(home)
    assert tool(path, "exists", "/local/domain/9/console/limit").returncode == 0


def test_the_domain_is_announced_and_released(path, store):
    with Store(path) as other:
        before = list(store.list("/local/domain"))
        xenstore_layout.introduce(store, config(), Running(9, 5, (), "0"))
        other.wait("@introduceDomain", lambda: store.domain_path(9), 10)
        assert store.domain_path(9) == "/local/domain/9"
        xenstore_layout.remove(store, 9)
        assert store.list("/local/domain") == before
        xenstore_layout.remove(store, 9)


def test_removing_one_domain_leaves_the_others(path, store):
    empty = listed(path)
    xenstore_layout.introduce(store, config(), Running(1, 5, (), "0"))
    one = listed(path)
    second = config('name = "b"\nuuid = "00000000-0000-0000-0000-000000000002"')
    xenstore_layout.introduce(store, second, Running(11, 5, (), "0"))
    xenstore_layout.remove(store, 11)
    assert {p for p in listed(path) if "11" in p.split("/")} == set()
    assert listed(path) == one | {"/libxl": ("", "n0"), "/vm": ("", "n0")}
    xenstore_layout.remove(store, 1)
    left = set(listed(path)) - set(empty)
    assert left <= {"/libxl", "/vm", "/local/domain/0/device-model"}


def test_removing_what_has_no_vm_of_its_own(store):
    store.write("/local/domain/5/vm", "/local/domain/0")  # has a name and no uuid: not ours
    xenstore_layout.remove(store, 5)
    assert store.read("/local/domain/0/name") == "Domain-0"
    assert store.list("/local/domain/5") is None
