"""Which host words mean, and the functions that toolstacks call."""

from pathlib import Path

import pytest

from xenqemu import toolstack
from xenqemu.errors import HostError, UsageError


@pytest.fixture
def capabilities(tmp_path, monkeypatch) -> Path:
    file = tmp_path / "capabilities"
    monkeypatch.setattr(toolstack, "CAPABILITIES", file)
    return file


@pytest.mark.parametrize(
    ("text", "dom0"), [("control_d\n", True), ("", False), ("\n", False), (None, False)]
)
def test_dom0_is_what_controls_a_host(capabilities, text, dom0):
    if text is not None:
        capabilities.write_text(text)
    assert toolstack.is_dom0() is dom0


@pytest.mark.parametrize("words", ["lab:/a/b", "lab:/a:b", "lab:rel"])
def test_a_lab_of_its_own_folder(words):
    folder = Path(words.removeprefix("lab:")).absolute()
    assert toolstack.open_host(words).folder == folder


@pytest.mark.parametrize("words", ["lab", "lab:", "auto"])
def test_the_lab_is_what_there_is_without_xen(capabilities, monkeypatch, words):
    monkeypatch.setenv("XENQEMU_LAB", "/some/lab")
    assert toolstack.open_host(words).folder == Path("/some/lab")


def test_the_lab_is_in_memory_and_ours(monkeypatch):
    monkeypatch.delenv("XENQEMU_LAB", raising=False)
    monkeypatch.setattr(toolstack.os, "geteuid", lambda: 1234)
    assert toolstack.default_lab() == Path("/dev/shm/xenqemu-lab-1234")
    monkeypatch.setattr(Path, "is_dir", lambda _path: False)
    monkeypatch.setattr(toolstack.tempfile, "gettempdir", lambda: "/some/tmp")
    assert toolstack.default_lab() == Path("/some/tmp/xenqemu-lab-1234")


@pytest.mark.parametrize("words", ["moon", "", "labs", "xen:4", "Lab"])
def test_other_words(capabilities, words):
    with pytest.raises(UsageError, match="is none of xen, lab, lab:DIR, auto"):
        toolstack.open_host(words)


def test_no_xen_here():
    host = toolstack.open_host("xen")
    with pytest.raises(HostError, match="this machine does not run under Xen"):
        host.config(1)
    with pytest.raises(HostError, match="this machine does not run under Xen"):
        host.hypervisor.info(1)
