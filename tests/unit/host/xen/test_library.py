"""Finding and opening Xen's libraries: Debian's real ones, where there is no Xen, and fakes."""

from __future__ import annotations

from errno import EACCES, EIO, EPERM
from pathlib import Path

import pytest

from tests.doubles.xen.fake_xen import FakeLibraries, Guest
from xenqemu.errors import HostError, HypervisorError
from xenqemu.host.xen import library
from xenqemu.host.xen.library import PROTOTYPES, Libraries, Xen, running_version
from xenqemu.host.xen.releases import PAE_ENABLED, CpuPolicy, release

INSTALLED = (4, 17)


# The version.


def sysfs(folder: Path, major: str, minor: str) -> Path:
    (folder / "version").mkdir()
    (folder / "version" / "major").write_text(major)
    (folder / "version" / "minor").write_text(minor)
    return folder


def test_the_version_is_that_of_the_hypervisor_that_runs(tmp_path: Path) -> None:
    assert running_version(sysfs(tmp_path, "4\n", "17\n")) == (4, 17)


@pytest.mark.parametrize("minor", ["", "seventeen"])
def test_nonsense_in_sysfs_is_no_version(tmp_path: Path, minor: str) -> None:
    with pytest.raises(HostError, match="does not run under Xen"):
        running_version(sysfs(tmp_path, "4", minor))


def test_a_machine_without_xen_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match="does not run under Xen: .*version/major"):
        running_version(tmp_path)
    monkeypatch.setattr(library, "SYSFS", tmp_path)
    with pytest.raises(HostError, match="does not run under Xen"):
        Xen()


@pytest.mark.parametrize(
    ("version", "since", "image", "policy"),
    [
        ((4, 13), (4, 13), 2, CpuPolicy.NONE),
        ((4, 14), (4, 14), 3, CpuPolicy.DIRECT),
        ((4, 15), (4, 14), 3, CpuPolicy.DIRECT),
        ((4, 16), (4, 16), 3, CpuPolicy.OBJECT),
        ((4, 17), (4, 16), 3, CpuPolicy.OBJECT),
        ((4, 20), (4, 16), 3, CpuPolicy.OBJECT),
        ((5, 0), (4, 16), 3, CpuPolicy.OBJECT),
    ],
)
def test_each_version_has_its_row(
    version: tuple[int, int], since: tuple[int, int], image: int, policy: CpuPolicy
) -> None:
    row = release(version)
    assert (row.since, row.image, row.cpu_policy) == (since, image, policy)
    assert (PAE_ENABLED in row.params) == (image == 2)


def test_the_params_are_those_that_libxc_saves() -> None:
    assert sorted(release((4, 17)).params) == [
        *(1, 5, 6, 9, 12, 17, 19, 27, 28, 29, 32, 33, 34, 36, 37, 38),
    ]


# Debian's libraries.


def test_every_function_is_in_the_installed_libraries() -> None:
    libraries = Libraries(INSTALLED)
    older = {
        "xc_get_cpu_policy_size",
        "xc_get_domain_cpu_policy",
        "xc_get_system_cpu_policy",
    }
    for name in PROTOTYPES.keys() - older:
        assert libraries[name].argtypes == PROTOTYPES[name][1]
        assert libraries[name] is libraries[name]
    for name in older:
        with pytest.raises(HostError, match=rf"Xen 4\.17 have no {name}"):
            libraries[name]


def test_a_missing_library_is_named() -> None:
    with pytest.raises(HostError, match=r"missing: libxenctrl\.so\.4\.99: cannot open"):
        Libraries((4, 99))


def test_a_xen_that_is_too_old_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(HostError, match=r"runs Xen 4\.12: 4\.13 or later is needed"):
        Libraries((4, 12))


def test_without_xen_the_interface_does_not_open(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(HostError, match=r"xc_interface_open: no access to Xen: .*root in dom0"):
        Xen(INSTALLED)
    assert capfd.readouterr().err == ""  # the libraries keep quiet


# Rights, and calls.


@pytest.mark.parametrize(
    ("errno", "why"),
    [
        (EPERM, "this domain may not control others"),
        (EACCES, r"libxenctrl\.so\.4\.17 does not match the running hypervisor"),
        (EIO, "Input/output error"),
    ],
)
def test_no_control_is_distinguished(libraries: FakeLibraries, errno: int, why: str) -> None:
    libraries.refusals["xc_domain_getinfolist"] = errno
    with pytest.raises(HostError, match=f"no control over Xen: {why}"):
        Xen(libraries=libraries)
    assert libraries.calls[-1] == "xc_interface_close"


def test_no_right_to_open(libraries: FakeLibraries) -> None:
    libraries.refusals["xc_interface_open"] = EACCES
    with pytest.raises(HostError, match="no access to Xen: Permission denied"):
        Xen(libraries=libraries)


def test_the_interface_is_closed_once(libraries: FakeLibraries) -> None:
    with Xen(libraries=libraries) as xen:
        pass
    xen.close()
    assert libraries.calls.count("xc_interface_close") == 1
    with pytest.raises(HypervisorError, match="^xc_domain_pause: the control .* closed already$"):
        xen.call("xc_domain_pause", 7)
    assert "xc_domain_pause" not in libraries.calls


def test_a_call_that_fails_says_which_and_why(libraries: FakeLibraries, xen: Xen) -> None:
    with pytest.raises(HypervisorError, match=r"^xc_domain_shutdown\(7, 2\): No such process$"):
        xen.call("xc_domain_shutdown", 7, 2)
    libraries.guests[7] = Guest()
    assert xen.call("xc_domain_shutdown", 7, 2) == 0
    assert xen.attempt("xc_domain_pause", 7) == (0, 0)


def test_the_handles_of_other_libraries_are_closed(libraries: FakeLibraries, xen: Xen) -> None:
    with pytest.raises(KeyError), xen.handle_of("xenforeignmemory") as handle:
        assert handle.value in libraries.memories
        raise KeyError
    assert libraries.calls[-1] == "xenforeignmemory_close"
