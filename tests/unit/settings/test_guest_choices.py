"""What guests' own files choose."""

import pytest

from xenqemu.settings.guest_choices import Choice, own_choice, own_choices

GUEST = 'name = "{}"\ntype = "hvm"\nmemory = 16\n'
LEAVE = 'on_host_shutdown = "leave"\n'


def test_what_each_guest_says_of_the_hosts_shutdown_is_read(tmp_path):
    for name, said in (("a", "save"), ("b", "shutdown"), ("c", "leave")):
        text = f'{GUEST.format(name)}on_host_shutdown = "{said}"\n'
        (tmp_path / f"{name}.cfg").write_text(text)
    (tmp_path / "d").write_text(GUEST.format("d"))
    chosen = {"a": Choice.SAVE, "b": Choice.SHUT_DOWN, "c": Choice.LEAVE}
    assert own_choices(tmp_path) == (chosen, [])


def test_what_chooses_nothing(tmp_path):
    (tmp_path / "binary").write_bytes(b"\0\xff")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("/nowhere")
    (tmp_path / "notes").write_text("of no guest\n")
    assert own_choices(tmp_path) == ({}, [])
    assert own_choices(tmp_path / "none") == ({}, [])


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
    ("text", "complaint"),
    [
        (LEAVE, "on_host_shutdown is not heeded: the file names no guest"),
        ("name = [ 'g' ]\n" + LEAVE, "on_host_shutdown is not heeded: the file names no guest"),
        (
            GUEST.format("g") + "on_host_shutdown = leave\n",
            "on_host_shutdown is not heeded: xl",
        ),
        (LEAVE + "#" * (1 << 20), "on_host_shutdown is not heeded: the file has more than 1 MiB"),
        (
            GUEST.format("g") + "on_host_shutdown = ['save']\n",
            "on_host_shutdown: expected save, shutdown or leave, got \"['save']\"",
        ),
        (
            GUEST.format("g") + "on_host_shutdown = 'migrate'\n",
            "on_host_shutdown: expected save, shutdown or leave, got 'migrate'",
        ),
    ],
)
def test_a_choice_that_cannot_be_heeded_is_complained_of(tmp_path, text, complaint):
    (tmp_path / "a").write_text(text)
    choices, (said,) = own_choices(tmp_path)
    assert choices == {}
    assert said.startswith(f"{tmp_path}/a: {complaint}")
