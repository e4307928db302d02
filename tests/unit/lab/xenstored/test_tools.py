"""Debian's xenstore-* tools (libxenstore 4.17), unmodified, against our xenstored.

They need XENSTORED_PATH and nothing else; -s is accepted and means nothing any more.
xenstore-control is run by its full path: Debian's wrapper looks for a hypervisor first.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.doubles.xen.xenstored import TIMEOUT, Raw, environment, tool
from xenqemu.host.xenstore.store import Store

GOLDEN = Path(__file__).parents[3] / "golden" / "xenstore-running.txt"
XEN_TOOLS = Path("/usr/lib/xen-4.17/bin")
LINE = re.compile(r'(?P<path>/\S*) = "(?P<value>.*)"   \((?P<permissions>\S+)\)')


def said(path: Path, name: str, *arguments: str) -> str:
    done = tool(path, name, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def xen_tool(path: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [XEN_TOOLS / name, *arguments],
        env=environment(path),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_a_new_store(path: Path) -> None:
    assert said(path, "ls", "-fp") == (
        '/@introduceDomain = ""   (n0)\n/@releaseDomain = ""   (n0)\n'
    )


def test_write_read_list_exists_remove(path: Path) -> None:
    said(path, "write", "/a/b", "hello", "/a/c", "two words")
    assert said(path, "read", "/a/b", "/a/c") == "hello\ntwo words\n"
    assert said(path, "read", "-p", "-s", "/a/b") == "/a/b: hello\n"
    assert said(path, "list", "/a") == "b\nc\n"
    assert tool(path, "exists", "/a/b").returncode == 0
    said(path, "rm", "/a/b")
    assert tool(path, "exists", "/a/b").returncode == 1
    missing = tool(path, "read", "/a/b")
    assert (missing.returncode, missing.stderr) == (
        1,
        "xenstore-read: couldn't read path /a/b\n",
    )
    assert tool(path, "rm", "/x/y").returncode == 1


def test_tidy_removal_takes_the_empty_parents(path: Path) -> None:
    said(path, "write", "/a/b/c", "1", "/a/d", "2")
    said(path, "rm", "-t", "/a/b/c")
    assert said(path, "ls", "-f", "/a") == '/a/d = "2"\n'


def test_relative_paths_are_those_of_domain_0(path: Path) -> None:
    said(path, "write", "device/x", "1")
    assert said(path, "read", "/local/domain/0/device/x") == "1\n"


def test_values_of_any_bytes(path: Path) -> None:
    said(path, "write", "/a", r"\x00\n\xff")
    with Raw(path) as raw:
        assert raw.ask(2, b"/a\0") == b"\0\n\xff"
    assert said(path, "read", "/a") == "\\000\\n\\xff\n"


def test_chmod(path: Path) -> None:
    said(path, "write", "/a/b", "", "/a/b/c", "")
    said(path, "chmod", "/a/b", "n1", "r2", "b3")
    said(path, "chmod", "-r", "/a", "n7")
    assert said(path, "ls", "-fp", "/a") == '/a/b = ""   (n7)\n/a/b/c = ""   (n7)\n'
    said(path, "chmod", "-u", "/a/b/c", "n1", "r2", "b3")
    said(path, "write", "/a/b/c/d", "inherits")
    assert said(path, "ls", "-fp", "/a") == (
        '/a/b = ""   (n1,r2,b3)\n/a/b/c = ""   (n1,r2,b3)\n/a/b/c/d = "inherits"   (n1,r2,b3)\n'
    )


def test_watch(path: Path) -> None:
    with subprocess.Popen(
        ["xenstore-watch", "-n", "5", "/a", "@releaseDomain"],
        env=environment(path),
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        assert watching.stdout is not None
        first = [watching.stdout.readline() for _ in range(2)]
        assert first == ["/a\n", "@releaseDomain\n"]
        said(path, "write", "/a/b", "1")
        said(path, "write", "/ab", "not this one")
        said(path, "rm", "/a")
        with Store(path) as store:
            store.introduce(3, 1, 1)
            store.release(3)
        assert watching.stdout.read() == "/a/b\n/a\n@releaseDomain\n"
        assert watching.wait(TIMEOUT) == 0


def test_the_tree_of_a_real_host(path: Path) -> None:
    """What `xenstore-ls -fp` printed of stock Xen, put into our store, prints the same."""
    text = GOLDEN.read_text()
    entries = [LINE.fullmatch(line) for line in text.splitlines()]
    assert len(entries) == 129
    with Store(path) as store:
        for entry in entries:
            assert entry is not None
            store.write(entry["path"], entry["value"])
            store.set_permissions(entry["path"], entry["permissions"].split(","))
    assert said(path, "ls", "-fp") == text


def test_ten_thousand_nodes_in_one_directory(path: Path) -> None:
    with Store(path) as store:
        store.atomically(lambda t: [t.write(f"/many/node-{n}", str(n)) for n in range(10_000)])
        names = store.list("/many")
    assert names == [f"node-{n}" for n in range(10_000)]
    assert said(path, "list", "/many").splitlines() == names


def test_control_knows_help_and_shutdown_alone(path: Path) -> None:
    helped = xen_tool(path, "xenstore-control", "help")
    assert (helped.returncode, helped.stdout) == (0, "help\t\nshutdown\t<domid>\n\n")
    assert xen_tool(path, "xenstore-control", "live-update").returncode != 0


def test_control_announces_a_shutdown(path: Path) -> None:
    with Store(path) as store:
        store.introduce(3, 1, 1)
        assert xen_tool(path, "xenstore-control", "shutdown", "3").returncode == 0
        assert xen_tool(path, "xenstore-control", "shutdown", "4").returncode != 0


@pytest.mark.parametrize("arguments", [["-i", "2"], ["-r", "1"]])
def test_the_test_program_of_xen(path: Path, arguments: list[str]) -> None:
    """tools/tests/xenstore of Xen: reads, writes, directories, transactions, conflicts."""
    done = xen_tool(path, "test-xenstore", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
