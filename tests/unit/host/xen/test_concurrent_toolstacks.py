"""Who else works on a domain: told from command lines, made up and real."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.doubles.system.processes import NOBODY, posing
from xenqemu.formats.helper.dialects import SAVE, dialect_of
from xenqemu.host.domain import Domain
from xenqemu.host.xen.concurrent_toolstacks import concurrent_toolstacks

XEN = (4, 17)
HELPER = "/usr/lib/xen-4.17/bin/libxl-save-helper"


@pytest.fixture
def proc(tmp_path):
    """A /proc with one process of each given command line, from 100 on.

    Each is root's, or of `user`, and executes what it says, or `program`.
    """

    def make(*lines, user=0, program=None):
        (tmp_path / "cpuinfo").write_text("no process")
        (tmp_path / "self").mkdir(exist_ok=True)
        for pid, words in enumerate(lines, 100):
            folder = tmp_path / str(pid)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "exe").symlink_to(program or words.split()[0])
            (folder / "status").write_bytes(b"Name:\tx\nUid:\t1\t%d\t1\t1\n" % user)
            (folder / "cmdline").write_bytes(
                b"".join(word.encode() + b"\0" for word in words.split())
            )
        return tmp_path

    return make


def found(proc, name="guest", version=XEN):
    return concurrent_toolstacks(Domain(7, "", name, ""), version, proc)


def saving(domid, version=XEN):
    return " ".join([HELPER, *dialect_of(version).arguments(SAVE, {"io_fd": 9, "domid": domid})])


@pytest.mark.parametrize(
    "line",
    [
        "xl save guest /tmp/guest",
        "xl save 7 /tmp/guest",
        "/usr/lib/xen-4.17/bin/xl -vvv -N save -c guest /tmp/guest",
        "xl migrate -s ssh guest there",
        "xl migrate --live 7 there",
        "xl remus guest there",
        "xl suspend guest",
        "xl resume 7",
        "xl destroy -f guest",
        "xl shutdown -w guest",
        "xl reboot guest",
        "xl shutdown -a -w",
        "xl reboot --all",
        saving(7),
    ],
)
def test_programs_that_end_stop_or_wake_the_domain(proc, line):
    assert found(proc(line)) == [f"process 100 ({line[:80]})"]


@pytest.mark.parametrize(
    "line",
    [
        "xl save other /tmp/guest",
        "xl save 77 /tmp/7",
        "xl save",
        "xl -v",
        "xl",
        "xl list guest",
        "xl console guest",
        "xl create -a guest",
        "xl -a",
        "xl restore /tmp/guest",
        "xm save guest",
        "vi xl save guest",
        "cat /etc/xl",
        saving(8),
        saving(7).replace("--save", "--restore"),
        f"{HELPER} --save-domain 9 -1 7",
        HELPER,
        "my-libxl-save-helper --save-domain 9 -1 7 0 0 0",
    ],
)
def test_others_are_none(proc, line):
    assert found(proc(line)) == []


def test_what_another_user_runs_is_never_believed(proc):
    assert found(proc("xl save guest /tmp/guest", saving(7), user=NOBODY)) == []
    assert found(proc("xl save guest /tmp/guest", user=os.geteuid())) != []


@pytest.mark.parametrize("program", ["/bin/sleep", "/tmp/xl/sleep", "/usr/bin/python3.11", "xlx"])
def test_what_calls_itself_xl_and_executes_something_else_is_never_believed(proc, program):
    assert found(proc("xl save guest /tmp/guest", saving(7), program=program)) == []


def test_xl_is_known_under_any_name_of_its_own_and_after_an_upgrade(proc):
    line = "anything save guest /tmp/guest"
    for program in ("/usr/lib/xen-4.17/bin/xl", "/usr/sbin/xl (deleted)"):
        assert found(proc(line, program=program)) == [f"process 100 ({line})"]


def test_a_command_line_is_shown_in_one_line_and_cut(proc):
    (words,) = found(proc("xl save guest /tmp/\x1b[2J" + "x" * 1000))
    assert words.isprintable()
    assert len(words) < 120


def test_a_domain_named_as_a_command_is(proc):
    assert found(proc("xl save other /tmp/f"), name="save") == []
    assert found(proc("xl save save /tmp/f"), name="save") != []


@pytest.mark.parametrize("version", [(4, 6), (4, 7), (4, 10), (4, 13), (4, 14), (4, 20)])
def test_the_helper_of_each_version(proc, version):
    lines = [saving(domid, version) for domid in (7, 8)]
    assert found(proc(*lines), version=version) == [f"process 100 ({lines[0][:80]})"]


def test_arguments_that_could_be_of_two_versions_are_read_by_the_one_that_runs(proc):
    """Seven numbers: the third is the domain from 4.10 on, where there is a back channel."""
    line = f"{HELPER} --save-domain 9 8 7 0 1 136 2"
    assert found(proc(line), version=(4, 10)) == [f"process 100 ({line})"]
    assert concurrent_toolstacks(Domain(8, "", "guest", ""), (4, 10), proc()) == []
    assert concurrent_toolstacks(Domain(8, "", "guest", ""), (4, 6), proc()) == [
        f"process 100 ({line})"
    ]


def test_all_are_named_and_processes_without_a_line_are_passed_over(proc):
    folder = proc("xl save guest /a", "init", "xl destroy 7", "kthreadd", "ended")
    (folder / "103" / "cmdline").write_bytes(b"")  # a thread of the kernel, or a zombie
    shutil.rmtree(folder / "104")
    (folder / "104").mkdir()  # it ended while we looked
    assert sorted(found(folder)) == [
        "process 100 (xl save guest /a)",
        "process 102 (xl destroy 7)",
    ]


def test_words_that_are_no_text(proc):
    folder = proc("xl")
    (folder / "100" / "cmdline").write_bytes(b"xl\0save\0g\xfcst\0/tmp/\xff\0")
    name = b"g\xfcst".decode(errors="surrogateescape")  # as xenstore's comes to us
    assert found(folder, name=name)[0].startswith("process 100 (xl save g")
    assert found(folder, name="gst") == []


@pytest.fixture
def place():
    """A folder that others may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_real_xl_is_seen_while_it_runs(place):
    name = f"guest-of-{place.name}"
    words = ("/nowhere/xl", "save", name, "/tmp/x")
    with posing(*words, folder=place) as xl:
        assert concurrent_toolstacks(Domain(1 << 20, "", name, ""), XEN) == [
            f"process {xl.pid} ({' '.join(words)[:80]})"
        ]
        assert concurrent_toolstacks(Domain(1 << 20, "", "another", ""), XEN) == []
    assert concurrent_toolstacks(Domain(1 << 20, "", name, ""), XEN) == []


def test_a_real_xl_that_nobody_runs_blocks_nothing(place):
    name = f"guest-of-{place.name}"
    with posing("xl", "save", name, folder=place, user=NOBODY) as xl:
        assert Path(f"/proc/{xl.pid}/cmdline").read_bytes().startswith(b"xl\0save\0")
        assert concurrent_toolstacks(Domain(1 << 20, "", name, ""), XEN) == []
