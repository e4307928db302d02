"""What of a host a config names, found by its place in the config."""

import pytest

from tests.doubles.in_memory.save_files import config_with
from tests.golden import save_files
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.config.host_resources import CONFIG, Kind, Resource, Structure, host_resources


def named(**tree: object) -> list[str]:
    return [str(resource) for resource in host_resources(config_with(**tree))]


def test_a_plain_guest_names_nothing():
    assert named() == []


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ({"disks": [{"vdev": "hda", "pdev_path": "/a"}, {"vdev": "hdb", "pdev_path": "/b"}]},
         ["disks.pdev_path=/a", "disks.pdev_path=/b"]),
        ({"b_info": {"extra": ["-device", "x"]}}, ["b_info.extra=-device", "b_info.extra=x"]),
        ({"b_info": {"type.pv": {"bootloader": "/b"}}}, ["b_info.type.pv.bootloader=/b"]),
        ({"b_info": {"irqs": [0, 7]}}, ["b_info.irqs=0", "b_info.irqs=7"]),
        ({"b_info": {"ioports": [{"first": 760, "number": 8}]}}, ["b_info.ioports=2f8+8"]),
        ({"b_info": {"iomem": [{"start": 655360, "number": 1, "gfn": 5}]}},
         ["b_info.iomem=a0000+1"]),
        ({"pcidevs": [{"func": 1, "dev": 2, "bus": 3}]}, ["pcidevs=0000:03:02.1"]),
        ({"pcidevs": [{"domain": 1, "seize": True}]}, ["pcidevs=0001:00:00.0,seize"]),
        ({"pcidevs": [{"bus": "x"}]}, ['pcidevs={"bus": "x"}']),
        ({"usbdevs": [{"ctrl": 0, "type.hostdev": {"hostbus": 1, "hostaddr": 3}}]},
         ["usbdevs=hostbus=1,hostaddr=3"]),
        ({"usbdevs": [{"ctrl": 0}]}, ['usbdevs={"ctrl": 0}']),
        ({"channels": [{"name": "c", "connection.socket": {"path": "/s"}}]},
         ["channels.connection.socket.path=/s"]),
        ({"c_info": {"xsdata": {"console/output": "pipe:/x"}}},
         ["c_info.xsdata.console/output=pipe:/x"]),
        ({"c_info": {"driver_domain": "True"}}, ["c_info.driver_domain=True"]),
        ({"c_info": {"driver_domain": "False"}}, []),
        ({"c_info": {"driver_domain": "<default>"}}, []),
        ({"vtpms": [{"backend_domid": 0}, {"backend_domid": 3}]}, ["vtpms.backend_domid=3"]),
        ({"pvcallsifs": [{"devid": 0}]}, ["pvcallsifs=pvcalls 0"]),
        ({"xenqemu": {"host": "lab", "machine": "pc"}}, []),
    ],
)  # fmt: skip
def test_each_kind_of_place(tree, lines):
    assert named(**tree) == lines


@pytest.mark.parametrize(
    ("tree", "lines"),
    [
        ({"b_info": {"later": "/x"}}, ["b_info.later=/x"]),
        ({"c_info": {"later": 7}}, ["c_info.later=7"]),
        ({"laters": [{"path": "/x"}]}, ['laters=[{"path": "/x"}]']),
        ({"b_info": {"later": {}}, "laters": []}, []),
        ({"b_info": {"extra": {"0": {"a": "-x"}}}}, ["b_info.extra.0.a=-x"]),
        ({"b_info": {"kernel": None}}, []),
        ({"b_info": {"type.pvh": "/x"}}, ['b_info.type.pvh="/x"']),
        ({"pcidevs": ["0000:03:00.0"]}, ['pcidevs="0000:03:00.0"']),
    ],
)  # fmt: skip
def test_what_is_of_another_libxl_or_of_no_type_of_its(tree, lines):
    assert named(**tree) == lines


def test_what_is_not_known_is_called_so():
    (found,) = host_resources(config_with(b_info={"later": "/x"}))
    assert found == Resource(Kind.UNKNOWN, "b_info.later", "/x")


def test_no_value_breaks_out_of_its_line_or_shows_a_password():
    spice = {"passwd": "secret", "host": "a\n\x1b[31m" + "x" * 200}
    first, second = named(b_info={"type.hvm": {"spice": spice}})
    assert first == "b_info.type.hvm.spice.passwd=***"
    assert second.startswith("b_info.type.hvm.spice.host=a\\n\\x1b[31mxxx")
    assert len(second) < 180
    assert named(**{"k\n" + "y" * 200: "v"}) == [f"k\\n{'y' * 57} … 202 characters … {'y' * 60}=v"]


@pytest.mark.parametrize("name", save_files.SAVE_FILES)
def test_nothing_that_stock_libxl_writes_is_unknown(name):
    path = save_files.FOLDER / "domain_config" / f"{name.removesuffix('.save')}.json"
    if path.exists():
        found = host_resources(DomainConfig.parse(path.read_bytes()))
        assert [each for each in found if each.kind is Kind.UNKNOWN] == []


def leaves(node: object, *path: str):
    """Yield the path to each key of the table that names something, and what it names."""
    if isinstance(node, dict):
        for name, below in node.items():
            yield from leaves(below, *path, name)
    elif node is not None:
        yield path, node


@pytest.mark.parametrize(("path", "node"), list(leaves(CONFIG)))
def test_each_key_of_the_table_is_found(path, node):
    kind, value = node, "/x"
    if isinstance(node, Structure):
        kind, value = node.kind, {"func": 1}
    if path[-1].endswith("_list"):
        value = [value]
    for name in reversed(path[1:]):
        value = {name: value}
    if path[0] not in ("c_info", "b_info"):
        value = [{"vdev": "hda", **value}]
    found = host_resources(config_with(**{path[0]: value}))
    known = [(each.kind, each.key) for each in found if not each.key.endswith(".vdev")]
    assert known == [(kind, ".".join(path))]
