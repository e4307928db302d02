"""What guests' own files choose."""

import os

from xenqemu.settings.choice import Choice
from xenqemu.settings.guest_choices import own_choices

GUEST = 'name = "{}"\ntype = "hvm"\nmemory = 16\n'


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
    assert first == f"{tmp_path}/a: {why} ['save']"
    assert second == f"{tmp_path}/b: {why} 'migrate'"
