"""The language of the table of layouts, on the table's own devices."""

import json
from importlib import resources
from typing import Any

import pytest

from xenqemu.formats.device_state.layouts import MOST_ELEMENTS, Extent, extent, known_qemu

TABLE = json.loads(
    resources.files("xenqemu.formats.device_state").joinpath("layouts.json").read_bytes()
)
TOKENS = {"@config", "@express", "@msix", "@zero1", "@zero4", "@bool", "@open", "@keep4", "@kept"}

BEFORE = b"before"
START = len(BEFORE)
PCI = "0000:00:03.0/"


def reach(state: bytes, idstr: str, version: int) -> Extent:
    return extent(BEFORE + state, START, idstr, version)


def sizes(state: bytes, idstr: str, version: int) -> set[int]:
    return {end - START for end in reach(state, idstr, version).ends}


def subsection(name: str, size: int, version: int = 1) -> bytes:
    return b"\5" + bytes([len(name)]) + name.encode() + version.to_bytes(4, "big") + bytes(size)


def config(*capabilities: tuple[int, int]) -> bytes:
    """Return the configuration space of a PCI device with capabilities (id, their u16)."""
    space = bytearray(256)
    pointer = 0x34
    for number, (kind, control) in enumerate(capabilities):
        offset = 0x40 + 16 * number
        space[pointer] = offset
        space[offset] = kind
        space[offset + 2 : offset + 4] = control.to_bytes(2, "little")
        pointer = offset + 1
    return b"\2\0\0\0" + bytes(space)


MSIX_3 = (0x11, 2)
EXPRESS = (0x10, 2)
EXTENDED = bytes(4096 - 256)
VIRTIO_PCI = config(MSIX_3) + bytes(16 + 3 * 16 + 1 + 2)


def vmxnet3(addresses: bytes) -> bytes:
    """Return the state of a card on a conventional bus that listens to multicast addresses."""
    state = config(MSIX_3) + EXTENDED + bytes(16 + 3 * 16 + 1 + 11)
    state += len(addresses).to_bytes(4, "big") + bytes(2897)
    return state + subsection("vmxnet3/mcast_list", 0) + addresses


def items(pattern: list[Any]) -> list[Any]:
    inner = [x for item in pattern if isinstance(item, dict) for x in groups(item)]
    return pattern + [x for group in inner for x in items(group)]


def groups(item: dict[str, Any]) -> list[list[Any]]:
    return item["any"] if "any" in item else [item.get("of") or item["msix"]]


def test_the_table_holds_nothing_that_the_walk_does_not_know() -> None:
    every = [*TABLE["devices"].values()]
    every += [known for names in TABLE["subsections"].values() for known in names.values()]
    for versions in every:
        for version, patterns in versions.items():
            assert int(version) >= 0
            for item in (item for pattern in patterns for item in items(pattern)):
                if isinstance(item, str):
                    assert item in TOKENS or item in TABLE["subsections"]
                elif isinstance(item, dict):
                    assert set(item) in ({"count", "of"}, {"up_to", "of"}, {"any"}, {"msix"})
                else:
                    assert item > 0
    assert known_qemu() == ("7.2",)


@pytest.mark.parametrize(
    ("idstr", "version", "state"),
    [
        ("timer", 2, bytes(24)),
        ("i8259", 1, bytes(16)),
        ("PCIBUS", 1, b"\0\0\0\3" + bytes(12)),
        ("hpet", 2, bytes(24) + b"\2" + bytes(2 * 42)),
        ("hpet", 2, bytes(24) + b"\0" + subsection("hpet/offset", 8)),
        ("serial", 3, bytes(11)),
        ("serial", 3, bytes(11) + subsection("serial/tsr", 6) + subsection("serial/poll", 12)),
        (PCI + "platform", 4, config() + bytes(17)),
        (PCI + "pcie-root-port", 1, config(EXPRESS) + bytes(4096 - 256 + 20)),
        (PCI + "pcie-root-port", 1, config(EXPRESS, MSIX_3) + bytes(4096 - 256 + 20 + 3 * 16 + 1)),
        (PCI + "ne2000", 3, config() + bytes(49212)),
        (PCI + "pvscsi", 0, bytes(1116) + subsection("pvscsi/pcie", 4 + 4096 + 16, version=0)),
        (PCI + "megasas-gen2", 0, config() + EXTENDED + bytes(16 + 36)),
        (PCI + "vmxnet3", 1, vmxnet3(b"")),
        (PCI + "vmxnet3", 1, vmxnet3(b"\1\0\x5e\0\0\1\1\0\x5e\0\0\2")),
        (PCI + "vga", 2, config() + bytes(1147)),
        ("vga", 2, bytes(1131)),
        ("0000:00:04.0/1:0:0/scsi-disk", 1, bytes(104 + 1 + 5)),
        (
            *(PCI + "virtio-blk", 2),
            VIRTIO_PCI + bytes(8) + b"\0\0\0\5" + bytes(5) + b"\0\0\0\2" + bytes(32 + 1),
        ),
        (
            *(PCI + "virtio-blk", 2),
            config() + bytes(16 + 8) + b"\0\0\0\0" + b"\0\0\0\2" + bytes(28 + 1)
            + subsection("virtio/extra_state", 0)
            + subsection("virtio_pci/modern_state", 28688)
            + subsection("virtio/started", 1),
        ),
    ],
)  # fmt: skip
def test_a_known_state_has_one_end(idstr: str, version: int, state: bytes) -> None:
    whole = reach(state + b"\4tail" + bytes(1 << 17), idstr, version)
    assert whole == Extent(frozenset({START + len(state)}), measured=True, least=START, cut=False)
    for size in {0, 1, len(state) // 2, len(state) - 1}:
        short = reach(state[:size], idstr, version)
        assert len(state) + START not in short.ends
        assert short.cut or len(short.ends) == 1


class TestSubsections:
    def test_of_another_structure_are_no_subsections(self) -> None:
        state = bytes(11) + subsection("other/tsr", 6)
        assert sizes(state, "serial", 3) == {11}

    def test_with_too_short_a_name_are_none(self) -> None:
        assert sizes(bytes(11) + subsection("serial", 6), "serial", 3) == {11}

    def test_that_nobody_knows_leave_the_end_open(self) -> None:
        whole = reach(bytes(11) + subsection("serial/new", 6), "serial", 3)
        assert whole == Extent(frozenset(), measured=False, least=START + 11, cut=False)
        whole = reach(bytes(11) + subsection("serial/tsr", 6, version=9), "serial", 3)
        assert not whole.measured

    def test_cut_short_are_so_reported(self) -> None:
        whole = bytes(11) + subsection("serial/tsr", 6)
        for size in range(11 + 8, len(whole)):
            assert reach(whole[:size], "serial", 3) == Extent(frozenset(), True, START, True)

    def test_again_and_again_come_to_an_end(self) -> None:
        state = bytes(11) + subsection("serial/tsr", 6) * 50
        assert sizes(state, "serial", 3) == set()


class TestWhatVaries:
    def test_an_unknown_device_or_version_is_open(self) -> None:
        unknown = Extent(frozenset(), measured=False, least=START, cut=False)
        assert reach(bytes(50), "stranger", 1) == unknown
        assert reach(bytes(50), "timer", 3) == unknown

    def test_a_list_under_way_is_open_from_there(self) -> None:
        disk = reach(bytes(104) + b"\1" + bytes(200), "scsi-disk", 1)
        assert disk == Extent(frozenset(), measured=False, least=START + 104, cut=False)

    def test_a_number_that_is_not_there_gives_several_ends(self) -> None:
        ends = sizes(config() + EXTENDED + bytes(16 + 937 + 30 * 4 + 50), PCI + "xhci", 1)
        assert ends == {4100 + 16 + 937 + 4 * ports for ports in range(31)}

    def test_slots_end_where_no_truth_value_is(self) -> None:
        slot = b"\1\0" + bytes(8)
        state = config() + bytes(52) + subsection("piix4_pm/cpuhp", 5) + 3 * slot + b"\4" * 20
        cpuhp = len(state) - 20 - 3 * 10
        ends = sizes(state, PCI + "piix4_pm", 3)
        assert ends >= {cpuhp + 10 * slots for slots in range(4)}
        assert cpuhp + 40 not in ends

    def test_guest_offloads_may_be_there(self) -> None:
        net = VIRTIO_PCI + bytes(8 + 4) + b"\0\0\0\1" + bytes(16) + bytes(18)
        net += b"\0\0\0\2" + bytes(2 * 6) + bytes(523)
        assert sizes(net + b"\4" * 20, PCI + "virtio-net", 11) == {len(net), len(net) + 8}

    def test_ports_are_counted(self) -> None:
        ports = VIRTIO_PCI + bytes(8 + 4 + 4 + 12) + b"\0\0\0\2" + bytes(2 * 10)
        assert sizes(ports + b"\4" * 20, PCI + "virtio-console", 3) == {len(ports)}
        assert not reach(ports[:-1] + b"\1" * 20, PCI + "virtio-console", 3).measured

    def test_absurd_counts_lead_nowhere(self) -> None:
        many = (MOST_ELEMENTS + 1).to_bytes(4, "big")
        ports = VIRTIO_PCI + bytes(8 + 4 + 4 + 12) + many + bytes(1 << 15)
        assert sizes(ports, PCI + "virtio-console", 3) == set()
        bus = reach(b"\xff\xff\xff\xff" + bytes(100), "PCIBUS", 1)
        assert (bus.ends, bus.cut) == (frozenset(), True)

    def test_capabilities_in_a_ring_come_to_an_end(self) -> None:
        ring = bytearray(config((9, 0), (9, 0)))
        ring[4 + 0x51] = 0x40
        assert sizes(bytes(ring) + bytes(17 + 50), PCI + "platform", 4) == {277}

    def test_a_configuration_cut_short_has_no_capabilities(self) -> None:
        assert reach(config(EXPRESS)[:100], PCI + "platform", 4).cut
