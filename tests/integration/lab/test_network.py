"""Guests with disks and taps on two hosts, each in a network of its own, joined by a cable.

::

    network one: br0 192.0.2.1 ── uplink ════ uplink ── br0 192.0.2.2 :network two
                  └─ web  192.0.2.5                      └─ mail 192.0.2.6
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab.guests import CFG, KERNEL, TICK, Guest, Host, wait
from xenqemu.host.disk import lease

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

NETWORKS = ("xq-one", "xq-two")
LINUX = """\
kernel = "{kernel}/vmlinuz"
ramdisk = "{kernel}/initrd"
cmdline = "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off every=0.2 {words}"
disk = ["{image},{format},hda,w"]
vif = ["model=virtio-net-pci,bridge=br0"]
"""


def ip(line: str) -> str:
    return subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def networks() -> Iterator[None]:
    """Two networks, with a bridge each and a cable between them."""
    try:
        for number, name in enumerate(NETWORKS, 1):
            ip(f"netns add {name}")
            ip(f"-n {name} link add dev br0 type bridge forward_delay 0")
            ip(f"-n {name} address add 192.0.2.{number}/24 dev br0")
            ip(f"-n {name} link set dev br0 up")
        ip("-n xq-one link add dev uplink type veth peer name uplink netns xq-two")
        for name in NETWORKS:
            ip(f"-n {name} link set dev uplink master br0 up")
        yield
    finally:
        for name in NETWORKS:
            subprocess.run(["ip", "netns", "del", name], check=False)


@pytest.fixture
def hosts(room: Path, networks: None) -> Iterator[tuple[Host, Host]]:
    """Two hosts; their disks are on a storage that they share."""
    made = [Host(room / name, name) for name in NETWORKS]
    for host in made:
        host.lab.up()
    yield made[0], made[1]
    for host in made:
        host.clean()
        host.lab.down()


def boot(host: Host, name: str, format: str, words: str, folder: Path) -> Guest:  # noqa: A002
    """Start a guest whose disk says whose it is."""
    image = folder / f"{name}.{format}"
    raw = folder / "raw"
    raw.write_bytes(f"this is the disk of {name}\n".encode().ljust(1 << 20, b"\0"))
    command = ["qemu-img", "convert", "-f", "raw", "-O", format, raw, image]
    subprocess.run(command, check=True)
    assert (KERNEL.parent / "guest-net" / "initrd").exists(), "scripts/test brings it"
    kernel = KERNEL.parent / "guest-net"
    text = LINUX.format(kernel=kernel, words=words, image=image, format=format)
    return host.create(CFG.format(name=name, memory=192) + text)


def wait_said(guest: Guest, words: str, after: int = 0) -> None:
    """Wait until a guest says so, beyond what it has said by some time."""
    wait(lambda: words.encode() in guest.said[after:], lambda: f"it said {guest.said[-800:]!r}")


def answers(network: str, address: str) -> bool:
    """Return whether an address answers in a network."""
    command = ["ip", "netns", "exec", network, "busybox", "ping", "-c", "1", "-W", "2", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def wait_answers(network: str, address: str) -> None:
    wait(lambda: answers(network, address), lambda: f"{address} does not answer in {network}", 60)


def ports(network: str) -> list[str]:
    """Return what is in the bridge of a network, but for the cable."""
    lines = ip(f"-n {network} -br link show master br0").splitlines()
    return [name for name in (re.split("[ @]", line)[0] for line in lines) if name != "uplink"]


@pytest.mark.long
def test_guests_reach_each_other_wherever_they_are(hosts, folder):
    one, two = hosts
    web = boot(one, "web", "raw", "ip=192.0.2.5/24 reach=192.0.2.6 disk=/dev/sda", folder)
    mail = boot(two, "mail", "qcow2", "ip=192.0.2.6/24 reach=192.0.2.5 disk=/dev/sda", folder)
    wait_said(web, "reached 192.0.2.6")
    wait_said(mail, "reached 192.0.2.5")
    wait_said(web, "disk this is the disk of web")
    wait_said(mail, "disk this is the disk of mail")
    assert answers("xq-two", "192.0.2.5")
    assert answers("xq-one", "192.0.2.6")
    assert [len(ports(name)) for name in NETWORKS] == [1, 1]
    image = folder / "web.raw"
    assert lease.held(image).owner.host.endswith(str(one.lab.folder))

    # To the other host: its network finds it at once, though the bridges had it elsewhere.
    said = web.save(folder / "web.save")
    assert ports("xq-one") == []
    assert lease.held(image) is None
    assert not answers("xq-one", "192.0.2.5")
    there = two.restore(folder / "web.save")
    there.earlier = said
    wait_answers("xq-one", "192.0.2.5")
    wait_answers("xq-two", "192.0.2.5")
    assert len(ports("xq-two")) == 2
    wait_said(there, "reached 192.0.2.6", len(said))
    wait_said(there, "disk this is the disk of web", len(said))
    wait_said(mail, "reached 192.0.2.5", len(mail.said))
    counted = TICK.findall(there.said)
    assert len({nonce for _, nonce in counted}) == 1
    assert [int(tick) for tick, _ in counted] == list(range(1, len(counted) + 1))
    assert lease.held(image).owner.host.endswith(str(two.lab.folder))

    # What has its disk there cannot be brought back here as well.
    refused = one.run("restore", folder / "web.save")
    assert refused.code == 3
    assert f"{image} is leased to domain" in refused.err
    assert one.empty()
    assert ports("xq-one") == []


CLIENT = """
import itertools, pathlib, socket, sys
address, port, stop = sys.argv[1:]
with socket.create_connection((address, int(port)), 30) as connection:
    echo = connection.makefile("rb")
    for number in itertools.count(1):
        connection.sendall(b"%d\\n" % number)
        assert int(echo.readline()) == number
        print(number, flush=True)
        if pathlib.Path(stop).exists():
            break
"""


def test_open_connections_go_on_through_a_move(hosts, folder):
    """They are neither broken nor begun anew: one process here talks to one in the guest."""
    one, two = hosts
    boot(one, "web", "raw", "ip=192.0.2.5/24 echo=7 disk=/dev/sda", folder)
    wait_answers("xq-one", "192.0.2.5")
    inside = ["ip", "netns", "exec", "xq-one", sys.executable, "-c", CLIENT, "192.0.2.5", "7"]
    with (folder / "heard").open("wb") as heard:
        client = subprocess.Popen([*inside, folder / "stop"], stdout=heard, stderr=heard)
    lines = (folder / "heard").read_bytes

    def wait_more(number: int) -> None:
        wanted = lines().count(b"\n") + number
        wait(lambda: lines().count(b"\n") >= wanted, lambda: repr(lines()[-500:]))

    try:
        wait_more(100)
        for here, there in ((one, two), (two, one)):
            receiver = shlex.join(there.command("migrate-receive"))
            done = here.run("migrate", "-s", "", "web", receiver)
            assert done.code == 0, done.err
            assert here.empty()
            wait_more(100)
        (folder / "stop").touch()
        assert client.wait(60) == 0, lines()[-500:]
        told = lines().split()
        assert told == [b"%d" % number for number in range(1, len(told) + 1)]
        wait_said(one.guest("web"), "disk this is the disk of web")
        assert lease.held(folder / "web.raw").owner.host.endswith(str(one.lab.folder))
    finally:
        client.kill()
        client.wait()


def test_a_guest_that_dies_leaves_nothing_in_the_network(hosts, folder):
    one, _ = hosts
    web = boot(one, "web", "raw", "ip=192.0.2.5/24", folder)
    assert len(ports("xq-one")) == 1
    web.machine.process.end()
    assert ports("xq-one") == []
    assert one.list() == []
    assert lease.held(folder / "web.raw") is None
