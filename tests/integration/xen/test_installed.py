"""What scripts/package makes, in a dom0 that has nothing of this checkout, on a real Xen host."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.packages import checkout, make, newer
from tests.integration.xen.bed import Bed
from tests.integration.xen.devices import DOM0, WORDS, keeps_its_disk_and_its_network, left
from tests.integration.xen.hosts import FILE, Boots, Ours, begin, goes_on
from tests.integration.xen.saves import goes_every_way
from xenqemu.version import VERSION

pytestmark = [pytest.mark.xen, pytest.mark.long, pytest.mark.timeout(1800)]

DISK = "/tmp/disk.img"
CONF = "/etc/xenqemu/xenqemu.conf"
WITHOUT_US = """
while mountpoint -q /src; do umount -l /src; done
rm -rf /usr/local/bin/xenqemu /usr/lib/python3/dist-packages/{pyxs,qemu,tenacity}*
"""
"""Whoever runs on in /src has it open; the root disk forgets."""

DEB = Ours(
    "xenqemu",
    "/usr/libexec/xenqemu/libxl-save-helper",
    "/etc/xen/scripts/xenqemu-block",
    "/etc/xen/scripts/xenqemu-vif",
)
PYZ = Ours(
    *(
        f"/opt/{name}"
        for name in ("xenqemu.pyz", "libxl-save-helper", "xenqemu-block", "xenqemu-vif")
    )
)


@pytest.fixture
def dom0(boot: Boots) -> Iterator[Bed]:
    """A host with nothing of ours, and none of the modules that we need."""
    bed = boot("4.17")
    bed.must(WITHOUT_US)
    for module in ("xenqemu", "pyxs", "qemu", "tenacity"):
        assert f"No module named '{module}'" in bed.run(f"python3 -c 'import {module}'").err
    bed.must(f"echo '{WORDS}' >{DISK} && truncate -s 4M {DISK}")
    bed.must(f"ip address replace {DOM0}/24 dev xenbr0")
    yield bed
    if not bed.lost:
        bed.clean()
        assert left(bed) == ""


@pytest.fixture
def packages(tmp_path: Path) -> tuple[Path, Path]:
    """The Debian package, and one of a later version."""
    make("deb", tmp_path / "dist")
    later = newer(checkout(tmp_path / "later"), tmp_path / "dist")
    return tmp_path / "dist" / f"xenqemu_{VERSION}_all.deb", later


def with_its_dependencies(bed: Bed, package: Path) -> str:
    """Return the packages, as dom0 sees them, that it has to have for this one, and this one."""
    folder = bed.folder / "debs"
    for name in ("partial", "lists/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").write_bytes(bed.get("/var/lib/dpkg/status"))
    command = ["apt-get", "-qq", "-y", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"]
    command += ["-o", f"Dir::State={folder}", "-o", f"Dir::State::status={folder}/status"]
    command += ["-o", f"Dir::Cache::archives={folder}"]
    subprocess.run([*command, "update"], check=True)
    subprocess.run([*command, "-d", "--no-install-recommends", "install", package], check=True)
    shutil.copy(package, folder)
    return "/job/debs/*.deb"


def test_a_debian_package_from_its_installation_to_its_end(
    dom0: Bed, packages: tuple[Path, Path]
) -> None:
    package, later = packages
    before = of_ours(dom0)
    dom0.must(f"dpkg -i {with_its_dependencies(dom0, package)}", timeout=900)
    goes_every_way(dom0, "hvm", DEB)
    dom0.must("xl destroy hvm")
    keeps_its_disk_and_its_network(dom0, DISK, "pvh", DEB)

    begin(dom0, "pvh")
    ticks = dom0.ticks("pvh")
    dom0.must(f"xenqemu save pvh {FILE}", timeout=180)
    kept = dom0.must(f"cat {CONF}")
    dom0.must(f"dpkg -i {dom0.put(later.name, later)}", timeout=900)
    assert dom0.must(f"cat {CONF}") == kept
    assert dom0.must("xenqemu --version") != f"xenqemu {VERSION}\n"
    dom0.must(f"xenqemu restore {FILE}", timeout=180)
    goes_on(dom0, "pvh", ticks)

    ticks = dom0.ticks("pvh")
    dom0.must("dpkg -r xenqemu", timeout=300)
    assert dom0.run("xenqemu --version").rc == 127
    assert dom0.must(f"cat {CONF}") == kept
    dom0.must("dpkg -P xenqemu", timeout=300)
    goes_on(dom0, "pvh", ticks)
    assert of_ours(dom0) == before


def of_ours(bed: Bed) -> list[str]:
    """Return the files of dom0's own disk and memory whose names are ours."""
    found = bed.must("find / /run /tmp -xdev -path '*xenqemu*' ! -name '*.log' ! -path '/job/*'")
    return sorted(set(found.splitlines()))


def test_one_file(dom0: Bed, tmp_path: Path) -> None:
    """It is all that there is of us: the command, the save helper, and the scripts."""
    make("pyz", tmp_path)
    file = dom0.put("xenqemu.pyz", tmp_path / "xenqemu.pyz")
    dom0.must(f"install -m 755 {file} {PYZ.xenqemu}")
    for name in (PYZ.save_helper, PYZ.block, PYZ.vif):
        dom0.must(f"ln -s {Path(PYZ.xenqemu).name} {name}")
    goes_every_way(dom0, "hvm", PYZ)
    dom0.must("xl destroy hvm")
    keeps_its_disk_and_its_network(dom0, DISK, "pvh", PYZ)
