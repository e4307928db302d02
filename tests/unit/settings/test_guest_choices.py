"""What guests' own files choose."""

import os

import pytest

from xenqemu.settings.choice import Choice
from xenqemu.settings.guest_choices import own_choice, own_choices

GUEST = 'name = "{}"\ntype = "hvm"\nmemory = 16\n'
LEAVE = 'on_host_shutdown = "leave"\n'


def test_what_each_guest_says_of_the_hosts_shutdown_is_read(tmp_path):
    for name, said in (("a", "save"), ("b", "shutdown"), ("c", "leave")):
        text = f'{GUEST.format(name)}on_host_shutdown = "{said}"\n'
        (tmp_path / f"{name}.cfg").write_text(text)
    (tmp_path / "d").write_text(GUEST.format("d"))
    chosen = {"a": Choice.SAVE, "b": Choice.SHUT_DOWN, "c": Choice.LEAVE, "d": Choice.SAVE}
    assert own_choices(tmp_path) == (chosen, [])


def test_what_is_no_file_of_a_guest_is_not_opened(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in (".web.swp", "#web#", "web~", "web.bak", "web.cfg.dpkg-old", "web.cfg.orig"):
        (tmp_path / name).write_text(GUEST.format("web"))
    assert own_choices(tmp_path) == ({}, [])
    assert own_choices(tmp_path / "none") == ({}, [])


def test_what_is_not_understood_is_said(tmp_path):
    (tmp_path / "binary").write_bytes(b"\0\xff")
    (tmp_path / "broken").symlink_to("/nowhere")
    (tmp_path / "no guest").write_text('on_host_shutdown = "leave"\n')
    choices, (first, second, third) = own_choices(tmp_path)
    assert choices == {}
    assert first.startswith(f"{tmp_path}/binary is passed over: ")
    assert second == f"{tmp_path}/broken is passed over: No such file or directory"
    assert third.startswith(f"{tmp_path}/no guest is passed over: ")


def test_of_two_files_for_one_guest_the_first_counts(tmp_path):
    """As xendomains starts guests: by the names of their files, and none that runs."""
    for name, said in (("10-web", "leave"), ("20-web", "shutdown"), ("30-web.cfg", "")):
        text = f'{GUEST.format("web")}on_host_shutdown = "{said}"\n'
        (tmp_path / name).write_text(text)
    choices, complaints = own_choices(tmp_path)
    assert choices == {"web": Choice.LEAVE}
    why = "is passed over: a file before it is of web too"
    assert complaints == [f"{tmp_path}/20-web {why}", f"{tmp_path}/30-web.cfg {why}"]


def test_a_first_file_that_chooses_nothing_counts_too(tmp_path):
    (tmp_path / "a").write_text(GUEST.format("web"))
    (tmp_path / "b").write_text(f'{GUEST.format("web")}on_host_shutdown = "leave"\n')
    assert own_choices(tmp_path)[0] == {"web": Choice.SAVE}


def test_a_choice_that_makes_no_sense(tmp_path):
    (tmp_path / "a").write_text(f'{GUEST.format("a")}on_host_shutdown = ["save"]\n')
    (tmp_path / "b").write_text(f'{GUEST.format("b")}on_host_shutdown = "migrate"\n')
    choices, (first, second) = own_choices(tmp_path)
    assert choices == {"a": Choice.SAVE, "b": Choice.SAVE}
    why = "on_host_shutdown: expected save, shutdown or leave, got"
    assert first == f"{tmp_path}/a: {why} \"['save']\""
    assert second == f"{tmp_path}/b: {why} 'migrate'"


@pytest.mark.parametrize(
    "other",
    [
        "# Gr\u00f6\u00dfe",
        "vif = [ 'type=netfront,mac=00:16:3e:00:00:01,bridge=br0' ]",
        'memory = "512MB"',
        'vif = "bridge=br0"',
        "vif = [ 'vlan=10,trusted,foo=1' ]",
        "disk = [ 'vdev=xvda,trusted,grant_usage=1,specification=virtio,target=/x' ]",
        "disk = [ 'nonsense', [ 5 ] ]",
        "type = [ 'hvm' ]",
        "cpus = 'some'",
        "kernel = [ ]",
        "vcpus = 0",
        "unknown = [ 1, [ 2 ] ]",
        "\ta\t=\t'x'\t;\tb = 2",
    ],
)
def test_the_choice_stands_by_itself_whatever_the_other_keys_are(other):
    for text in (f"{other}\n{GUEST.format('g')}{LEAVE}", f"{LEAVE}{GUEST.format('g')}{other}\n"):
        for encoding in ("utf-8", "latin-1"):
            assert own_choice(text.encode(encoding)) == ("g", Choice.LEAVE, "")
    text = f"{GUEST.format('g')}{LEAVE}".rstrip("\n").encode()
    assert own_choice(text) == ("g", Choice.LEAVE, "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{GUEST.format('g')}{LEAVE}".replace("\n", "\r\n"), 1),
        (f"import os\n{GUEST.format('g')}{LEAVE}", 1),
        (f"{GUEST.format('g')}vcpus = int(1)\n{LEAVE}", 4),
        (f"{LEAVE}{GUEST.format('g')}disk = [ 'a'\n", 6),
        (f"\ufeff# first\n{GUEST.format('g')}{LEAVE}", 1),
        (f"{GUEST.format('g')}{LEAVE}# no newline", 5),
    ],
)
def test_a_file_that_xl_refuses_is_heeded_and_complained_of(text, line):
    name, choice, complaint = own_choice(text.encode())
    assert (name, choice) == ("g", Choice.LEAVE)
    assert complaint.startswith(f"xl refuses the file: xl.cfg line {line} ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (LEAVE, "it names no guest"),
        ("of no guest\n", "it names no guest"),
        ("name = [ 'g' ]\n" + LEAVE, "it names no guest"),
        (LEAVE + "#" * (1 << 20), "it has more than 1 MiB"),
    ],
)
def test_a_file_of_no_guest_is_passed_over(tmp_path, text, why):
    (tmp_path / "a").write_text(text)
    assert own_choices(tmp_path) == ({}, [f"{tmp_path}/a is passed over: {why}"])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("on_host_shutdown = leave", "on_host_shutdown is not heeded: xl"),
        ("on_boot = leave", "xl refuses the file: xl"),
        (
            "on_host_shutdown = ['save']",
            "on_host_shutdown: expected save, shutdown or leave, got \"['save']\"",
        ),
        (
            "on_host_shutdown = 'migrate'",
            "on_host_shutdown: expected save, shutdown or leave, got 'migrate'",
        ),
    ],
)
def test_a_choice_that_cannot_be_heeded_is_complained_of(tmp_path, line, complaint):
    (tmp_path / "a").write_text(f"{GUEST.format('g')}{line}\n")
    choices, (said,) = own_choices(tmp_path)
    assert choices == {"g": Choice.SAVE}
    assert said.startswith(f"{tmp_path}/a: {complaint}")
