"""The tests keep their shape: helpers stand apart, and each file is named after what it tests."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
PACKAGE = ROOT / "xenqemu"
UNIT = TESTS / "unit"

FROM_A_TEST = re.compile(
    r"^\s*(?:from|import) +tests\.[\w.]*\b(?:test_|conftest\b).*$", re.MULTILINE
)

TOGETHER = {
    "test_floors.py": "the rooms of the package",
    "test_shape.py": "the rooms of the tests",
    "cli/test_all_domains.py": "save-all and restore-all",
    "cli/test_commands.py": "verify and inspect as programs",
    "cli/test_migration.py": "migrate and migrate-receive",
    "cli/test_start.py": "what each command loads",
    "hotplug/test_attacks.py": "what others do where the scripts work",
    "host/xen/test_connections_of_a_save.py": "what a save opens to xenstored and to QEMU",
    "host/xen/memory/test_hvm_memory_live.py": "the writer and the log of changed pages",
    "lab/xenstored/test_pyxs.py": "the daemon as pyxs sees it",
    "lab/xenstored/test_requests.py": "all requests, byte for byte",
    "lab/xenstored/test_tools.py": "the daemon as Debian's tools see it",
    "operations/test_doubt.py": "operations whose end another host knows",
    "operations/test_faults.py": "each call of each operation fails",
    "operations/test_moves.py": "both sides of a migration",
    "operations/test_save_live.py": "the save of a guest that runs",
    "operations/test_signals_come.py": "each operation, interrupted at each of its calls",
    "operations/test_stateful.py": "any history of operations",
}
"""Files of tests/unit that are about several modules, or one that has another file too."""


def imported_tests(text: str) -> list[str]:
    """Return the lines that import from a test module or a conftest; also those of programs."""
    return FROM_A_TEST.findall(text)


def test_nothing_is_imported_from_a_test_module():
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in sorted(TESTS.rglob("*.py"))
        if (found := imported_tests(path.read_text()))
    }
    assert wrong == {}


def test_such_an_import_is_found():
    module, conftest = "tests.unit.test_" + "x", "tests.unit." + "conftest"
    lines = [f"from {module} import y", f"    import {module}", f"from {conftest} import y"]
    assert imported_tests("\n".join([*lines, "from tests.doubles import x"])) == lines


def test_each_file_is_named_after_the_module_that_it_tests():
    files = {path.relative_to(UNIT) for path in UNIT.rglob("test_*.py")}
    alone = {
        str(file)
        for file in files
        if not (module := PACKAGE / file.parent / file.name.removeprefix("test_")).exists()
        and not module.with_suffix("").is_dir()
    }
    assert alone == TOGETHER.keys()
