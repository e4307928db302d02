"""Imports go down only, from room to room too; what is foreign, and what is late, has its place."""

import ast
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "xenqemu"

FLOORS: Mapping[str, Sequence[Collection[str]]] = {
    "": [
        {"errors", "frozen", "option", "quantities", "shown_text", "version"},
        {"formats"},
        {"system"},
        {"host"},
        {"settings"},
        {"operations"},
        {"lab"},
        {"choose_host"},
        {"all_guests", "save_files"},
        {"api"},
        {"cli", "hotplug", "save_helper"},
        {"__init__", "__main__", "called_as"},
    ],
    "formats": [
        {"libxxhash"},
        {"xx_hash"},
        {"stream", "xenstore", "arp_frames", "typed_json"},
        {"config", "device_state", "helper", "zstd_seekable"},
        {"migration"},
    ],
    "host": [
        {"ended_operation", "findings", "party_deadlines", "precopy_options", "trust"},
        {"precopy"},
        {"disk", "network", "peer", "qemu", "xenstore"},
        {"domain", "guest_memory"},
        {"protocol"},
        {"allowed_resources", "domain_state", "memory"},
        {"outside_state"},
        {"xen"},
    ],
    "host/xen": [
        {"xen_paths", "releases"},
        {"domain_info", "library"},
        {"control"},
        {"memory", "xl"},
        {"concurrent_toolstacks", "requirements", "suspend_request"},
        {"hypervisor"},
        {"xen_host"},
    ],
}
"""The rooms of a folder, from the ground up.

A module may import from those below its own; from those beside it only at the top, among doors.
"""

DOORS = ("__init__", "__main__")
"""Rooms that import each other."""

SYSTEM = (
    *("os", "io", "stat", "fcntl", "mmap", "shutil", "tempfile", "glob", "signal", "ctypes"),
    *("socket", "select", "selectors", "subprocess", "threading", "multiprocessing", "time"),
)
"""Ways to the system around us."""

SOURCE, SINK = "formats/stream/source.py", "formats/stream/sink.py"
XXHASH = "formats/libxxhash.py"
BANS = [
    ("formats/*", (*SYSTEM, "logging", "argparse"), (SOURCE, SINK, XXHASH)),
    (SOURCE, tuple({*SYSTEM} - {"os", "io", "stat"}), ()),  # fstat, preadv, SEEK_CUR, BytesIO
    (SINK, tuple({*SYSTEM} - {"os", "io", "stat", "fcntl"}), ()),  # writev, BytesIO, fstat, F_GETFL
    ("operations/*", ("struct", "socket", "ctypes", "argparse"), ()),
    ("operations/*", ("xenqemu.host.xen",), ()),
    ("*", ("asyncio", "qemu"), ("host/qemu/*",)),
    ("*", ("pyxs",), ("host/xenstore/*",)),
    ("*", ("subprocess", "multiprocessing", "pty"), ("system/child.py",)),
    (
        "*",
        ("ctypes",),
        (
            *("host/xen/*", "system/bounded_file.py", "system/free_space.py", "system/reaper.py"),
            XXHASH,
        ),
    ),
]
"""(files, modules that they do not import, files that may all the same)."""

LATE = {
    "choose_host.py": "a host is loaded where it is worked on",
    "cli/*_command.py": "what a command says of itself needs nothing of what it does",
    "cli/arguments.py": "few command lines have a mistake",
    "cli/input_file.py": "most files have no key",
    "cli/report.py": "a summary says nothing of what the host allows",
    "cli/terminal.py": "most answers are for people",
    "formats/migration/cpu_features.py": "few guests lack features, and the names of all are many",
    "formats/stream/pieces.py": "what xl starts of ours digests nothing",
    "host/xen/concurrent_toolstacks.py": "few hosts have another toolstack at work",
    "host/xen/xen_host.py": "each operation loads what it needs of xl and the helper",
    "lab/ram_file.py": "few saves are live",
    "operations/inspect.py": "few who verify ask what the config names on the host",
    "operations/compressed.py": "few save files are compressed",
    "settings/guest_config.py": "few commands read an xl.cfg",
    "settings/hooks.py": "few hosts have hooks, and their settings alone start no programs",
    "settings/toml_values.py": "most hosts have no such text",
    "system/zstd/unpacked.py": "most files are not compressed",
    "system/retry.py": "tenacity takes longer to load than most commands go on",
}
"""Where a module is imported when it is needed, and why it is not at the top."""


def imports(source: str, package: str) -> Iterator[str]:
    """Yield what is imported, at whatever place, in full; `package` is where the module is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def level(folder: str, name: str) -> int | None:
    """Return the floor of a room in a folder that has floors."""
    return next((at for at, names in enumerate(FLOORS[folder]) if name in names), None)


def homeless(file: str) -> bool:
    """Return whether a module is in no room of a folder that has floors."""
    folder, _, room = file.removesuffix(".py").rpartition("/")
    above = bool(folder) and homeless(folder)
    its_own = folder and room == "__init__"
    return above or (folder in FLOORS and not its_own and level(folder, room) is None)


def upward(file: str, name: str) -> str | None:
    """Return what is wrong if `file` imports `name` of our own package."""
    here, there = file.removesuffix(".py").split("/"), name.split(".")[1:]
    folder = ""
    while folder in FLOORS and here and there and here[0] == there[0]:
        folder = "/".join(filter(None, [folder, here.pop(0)]))
        there.pop(0)
    mine = level(folder, here[0]) if folder in FLOORS and here else None
    if mine is None or here[:1] == there[:1]:
        return None
    theirs = level(folder, there[0]) if there else None
    theirs = len(FLOORS[folder]) - 1 if theirs is None else theirs  # xenqemu's own names
    if theirs == mine and not {here[0], *there[:1]} <= {*DOORS}:
        return f"{file}: {name} is beside it"
    return f"{file}: {name} is above it" if theirs > mine else None


def banned(file: str, name: str) -> str | None:
    """Return what is wrong if `file` imports `name` of somebody else."""
    for files, modules, allowed in BANS:
        excused = any(fnmatch(file, pattern) for pattern in allowed)
        found = any(f"{name}.".startswith(f"{module}.") for module in modules)
        if fnmatch(file, files) and found and not excused:
            return f"{file}: {name} has no place there"
    return None


def faults(file: str, source: str) -> list[str]:
    """Return what is wrong with the imports of one module; `file` is its path in the package."""
    package = ".".join([PACKAGE, *Path(file).parent.parts])
    found = [f"{file}: stands on no floor"] if homeless(file) else []
    for name in imports(source, package):
        wrong = upward(file, name) if name.startswith(PACKAGE) else None
        found += filter(None, [wrong, banned(file, name)])
    return found


def test_package_keeps_to_its_floors():
    modules = sorted((ROOT / PACKAGE).rglob("*.py"))
    assert len(modules) > 40
    wrong = []
    for module in modules:
        wrong += faults(str(module.relative_to(ROOT / PACKAGE)), module.read_text())
    assert wrong == []


@pytest.mark.parametrize(("pattern", "modules", "allowed"), BANS)
def test_every_rule_has_something_to_rule(pattern, modules, allowed):
    files = [str(path.relative_to(ROOT / PACKAGE)) for path in (ROOT / PACKAGE).rglob("*.py")]
    for each in (pattern, *allowed):
        assert any(fnmatch(file, each) for file in files), each


def late(source: str) -> bool:
    """Return whether a module imports anything of its own accord only when it is called."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    inside = [
        each
        for node in ast.walk(ast.parse(source))
        if isinstance(node, functions)
        for each in ast.walk(node)
    ]
    return any(isinstance(each, (ast.Import, ast.ImportFrom)) for each in inside)


def test_late_imports_have_their_places_and_reasons():
    modules = (ROOT / PACKAGE).rglob("*.py")
    found = {str(path.relative_to(ROOT / PACKAGE)) for path in modules if late(path.read_text())}
    named = {file: next((name for name in LATE if fnmatch(file, name)), None) for file in found}
    assert {file for file, name in named.items() if not name} == set()
    assert {*named.values()} == LATE.keys()


def test_no_two_files_have_one_name():
    names = Counter(path.name for path in (ROOT / PACKAGE).rglob("*.py"))
    assert [name for name, count in names.items() if count > 1] == ["__init__.py", "__main__.py"]


ABOVE = "is above it"
NO_PLACE = "has no place there"
BESIDE = "is beside it"
XL = "formats/stream/xl.py"
VIOLATIONS = [
    ("errors.py", "from xenqemu.formats import xenstore", "xenqemu.formats.xenstore", ABOVE),
    (XL, "from xenqemu.host.xenstore import store", "xenqemu.host.xenstore.store", ABOVE),
    (XL, "import xenqemu.operations", "xenqemu.operations", ABOVE),
    (XL, "from xenqemu import host", "xenqemu.host", ABOVE),
    (XL, "from xenqemu import save", "xenqemu.save", ABOVE),
    (XL, "from ...host import protocol", "xenqemu.host.protocol", ABOVE),
    (XL, "from ..migration import handshake", "xenqemu.formats.migration.handshake", ABOVE),
    (XL, "import os.path", "os.path", NO_PLACE),
    (XL, "import json, socket", "socket", NO_PLACE),
    (SOURCE, "import subprocess", "subprocess", NO_PLACE),
    (SINK, "import time", "time", NO_PLACE),
    (
        "formats/config/a.py",
        "from ..helper import messages",
        "xenqemu.formats.helper.messages",
        BESIDE,
    ),
    ("host/qemu/a.py", "from ..xenstore import store", "xenqemu.host.xenstore.store", BESIDE),
    (
        "host/disk/a.py",
        "from xenqemu.host.protocol import Host",
        "xenqemu.host.protocol.Host",
        ABOVE,
    ),
    (
        "host/protocol.py",
        "from xenqemu.host.xen import xen_paths",
        "xenqemu.host.xen.xen_paths",
        ABOVE,
    ),
    (
        "host/xen/control.py",
        "from .hypervisor import XenHypervisor",
        "xenqemu.host.xen.hypervisor.XenHypervisor",
        ABOVE,
    ),
    (
        "host/xen/xl/a.py",
        "from xenqemu.host.xen.memory import dirty_log",
        "xenqemu.host.xen.memory.dirty_log",
        BESIDE,
    ),
    ("host/xen/cellar.py", "import json", "stands", "on no floor"),
    ("host/xen/xl/a.py", "from ....operations import save", "xenqemu.operations.save", ABOVE),
    ("system/process.py", "import asyncio", "asyncio", NO_PLACE),
    ("system/child.py", "from qemu.qmp import QMPClient", "qemu.qmp.QMPClient", NO_PLACE),
    ("host/domain_state.py", "import pyxs", "pyxs", NO_PLACE),
    ("system/process.py", "import subprocess", "subprocess", NO_PLACE),
    ("host/xen/xl/a.py", "from subprocess import Popen", "subprocess.Popen", NO_PLACE),
    ("operations/a.py", "import struct", "struct", NO_PLACE),
    ("operations/a.py", "from pyxs import Client", "pyxs.Client", NO_PLACE),
    ("operations/a.py", "from qemu import qmp", "qemu.qmp", NO_PLACE),
    ("operations/a.py", "import argparse", "argparse", NO_PLACE),
    (
        "operations/a.py",
        "from xenqemu.host.xen import xen_paths",
        "xenqemu.host.xen.xen_paths",
        NO_PLACE,
    ),
    ("operations/a.py", "def late():\n    import asyncio", "asyncio", NO_PLACE),
    ("operations/a.py", "from xenqemu.lab.lab_host import Lab", "xenqemu.lab.lab_host.Lab", ABOVE),
    ("operations/a.py", "if TYPING:\n    from xenqemu.cli import show", "xenqemu.cli.show", ABOVE),
    ("lab/lab_host.py", "from pyxs.client import Client", "pyxs.client.Client", NO_PLACE),
    ("lab/lab_host.py", "from xenqemu.__main__ import main", "xenqemu.__main__.main", ABOVE),
    ("hotplug/vif.py", "from xenqemu.cli import show", "xenqemu.cli.show", BESIDE),
    ("cellar/wine.py", "import json", "stands", "on no floor"),
]


@pytest.mark.parametrize(("file", "source", "name", "what"), VIOLATIONS)
def test_violation_is_found_and_named(file, source, name, what):
    assert faults(file, source) == [f"{file}: {name} {what}"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("errors.py", "import os"),
        (XL, "from xenqemu.errors import FormatError\nimport json, struct"),
        ("formats/stream/libxc.py", "from . import page_data\nfrom .value import Value"),
        ("formats/migration/a.py", "from xenqemu.formats.config import domain_config"),
        (SOURCE, "import io, os, stat"),
        ("host/qemu/qmp.py", "import asyncio\nfrom qemu.qmp import QMPClient"),
        ("host/xenstore/connection.py", "from pyxs.client import Client"),
        ("host/xen/xen_host.py", "from xenqemu.host.xen.hypervisor import XenHypervisor"),
        ("host/xen/__init__.py", "import json"),
        ("operations/save.py", "import os\nfrom xenqemu.system.staged_file import draft_for"),
        ("cli/lab_command.py", "from xenqemu.lab.lab_host import Lab\nimport argparse"),
        ("__main__.py", "from xenqemu.cli.main import main"),
    ],
)
def test_what_is_right_passes(file, source):
    assert faults(file, source) == []


@pytest.mark.parametrize(
    ("source", "is_late"),
    [
        ("import json", False),
        ("if TYPE_CHECKING:\n    import json", False),
        ("def late():\n    import json", True),
        ("class A:\n    def late(self):\n        from a import b", True),
    ],
)
def test_late_import_is_found(source, is_late):
    assert late(source) == is_late
