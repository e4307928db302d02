"""Imports go down only, and what is foreign has one place: proved by reading every module."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "xenqemu"

FLOORS = [
    {"errors", "version"},
    {"formats"},
    {"host"},
    {"operations"},
    {"lab", "hosts", "toolstack", "save_helper", "hotplug", "cli"},
    {"__init__", "__main__"},
]
"""From the ground up; a module may import its own floor and those below."""

SYSTEM = (
    *("os", "io", "stat", "fcntl", "mmap", "shutil", "tempfile", "glob", "signal", "ctypes"),
    *("socket", "select", "selectors", "subprocess", "threading", "multiprocessing", "time"),
)
"""Ways to the system around us."""

BANS = [
    ("formats/*", (*SYSTEM, "logging", "argparse"), ("formats/source.py", "formats/sink.py")),
    ("formats/source.py", tuple({*SYSTEM} - {"os", "io", "stat"}), ()),  # fstat, SEEK_CUR, BytesIO
    ("formats/sink.py", tuple({*SYSTEM} - {"os", "io"}), ()),  # writev, BytesIO
    ("operations/*", ("struct", "socket", "subprocess", "ctypes", "argparse"), ()),
    ("*", ("asyncio", "qemu"), ("host/qmp*.py", "host/device_model.py")),
    ("*", ("pyxs",), ("host/store*.py",)),
    ("*", ("ctypes",), ("host/xen/*", "host/room.py")),
]
"""(files, modules that they do not import, files that may all the same)."""


def imports(source: str, package: str) -> Iterator[str]:
    """Yield what is imported, at whatever place, in full; `package` is where the module is."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def floor(name: str) -> int | None:
    """Return the floor of a module or a package at the top of ours."""
    return next((level for level, names in enumerate(FLOORS) if name in names), None)


def upward(file: str, name: str) -> str | None:
    """Return what is wrong if `file` imports `name` of our own package."""
    here = floor(file.split("/", maxsplit=1)[0].removesuffix(".py"))
    if here is None:
        return f"{file}: stands on no floor"
    package, _, rest = name.partition(".")
    there = floor(rest.split(".")[0]) if package == PACKAGE else 0
    there = len(FLOORS) - 1 if there is None else there  # a name that xenqemu itself exports
    return f"{file}: {name} is above it" if there > here else None


def banned(file: str, name: str) -> str | None:
    """Return what is wrong if `file` imports `name` of somebody else."""
    top = name.split(".", maxsplit=1)[0]
    for files, modules, allowed in BANS:
        excused = any(fnmatch(file, pattern) for pattern in allowed)
        if fnmatch(file, files) and top in modules and not excused:
            return f"{file}: {name} has no place there"
    return None


def faults(file: str, source: str) -> list[str]:
    """Return what is wrong with the imports of one module; `file` is its path in the package."""
    package = ".".join([PACKAGE, *Path(file).parent.parts])
    found = [(upward(file, name), banned(file, name)) for name in imports(source, package)]
    return [fault for pair in found for fault in pair if fault]


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


ABOVE = "is above it"
NO_PLACE = "has no place there"
VIOLATIONS = [
    ("errors.py", "from xenqemu.formats import xl", "xenqemu.formats.xl", ABOVE),
    ("formats/xl.py", "from xenqemu.host import store", "xenqemu.host.store", ABOVE),
    ("formats/xl.py", "import xenqemu.operations", "xenqemu.operations", ABOVE),
    ("formats/xl.py", "from xenqemu import host", "xenqemu.host", ABOVE),
    ("formats/xl.py", "from xenqemu import suspend", "xenqemu.suspend", ABOVE),
    ("formats/xl.py", "from ..host import store", "xenqemu.host.store", ABOVE),
    ("formats/xl.py", "import os.path", "os.path", NO_PLACE),
    ("formats/xl.py", "import json, socket", "socket", NO_PLACE),
    ("formats/source.py", "import subprocess", "subprocess", NO_PLACE),
    ("formats/sink.py", "import stat", "stat", NO_PLACE),
    ("host/xen/a.py", "from ...operations import journal", "xenqemu.operations.journal", ABOVE),
    ("host/process.py", "import asyncio", "asyncio", NO_PLACE),
    ("host/policy.py", "from qemu.qmp import QMPClient", "qemu.qmp.QMPClient", NO_PLACE),
    ("host/domain.py", "import pyxs", "pyxs", NO_PLACE),
    ("operations/a.py", "import struct", "struct", NO_PLACE),
    ("operations/a.py", "from pyxs import Client", "pyxs.Client", NO_PLACE),
    ("operations/a.py", "from qemu import qmp", "qemu.qmp", NO_PLACE),
    ("operations/a.py", "import argparse", "argparse", NO_PLACE),
    ("operations/a.py", "def late():\n    import asyncio", "asyncio", NO_PLACE),
    ("operations/a.py", "from xenqemu.lab.host import Lab", "xenqemu.lab.host.Lab", ABOVE),
    ("operations/a.py", "if TYPING:\n    from xenqemu.cli import show", "xenqemu.cli.show", ABOVE),
    ("lab/host.py", "from pyxs.client import Client", "pyxs.client.Client", NO_PLACE),
    ("lab/host.py", "from xenqemu.__main__ import main", "xenqemu.__main__.main", ABOVE),
    ("cellar/wine.py", "import json", "stands", "on no floor"),
]


@pytest.mark.parametrize(("file", "source", "name", "what"), VIOLATIONS)
def test_violation_is_found_and_named(file, source, name, what):
    assert faults(file, source) == [f"{file}: {name} {what}"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("errors.py", "import os"),
        ("formats/xl.py", "from xenqemu.errors import FormatError\nimport json, struct"),
        ("formats/libxc.py", "from . import page_data\nfrom .value import Value"),
        ("formats/source.py", "import io, os, stat"),
        ("host/qmp.py", "import asyncio\nfrom qemu.qmp import QMPClient"),
        ("host/store_link.py", "from pyxs.client import Client"),
        ("operations/suspend.py", "import os\nfrom xenqemu.host.staging import staged"),
        ("cli/lab.py", "from xenqemu.lab.host import Lab\nimport argparse"),
        ("__main__.py", "from xenqemu.cli.main import main"),
    ],
)
def test_what_is_right_passes(file, source):
    assert faults(file, source) == []
