"""What guests' own files choose."""

from xenqemu.settings.guest_choices import Choice, own_choices

GUEST = 'name = "{}"\ntype = "hvm"\nmemory = 16\n'


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
    (tmp_path / "no guest").write_text('on_host_shutdown = "leave"\n')
    assert own_choices(tmp_path) == ({}, [])
    assert own_choices(tmp_path / "none") == ({}, [])


def test_a_choice_that_makes_no_sense(tmp_path):
    (tmp_path / "a").write_text(f'{GUEST.format("a")}on_host_shutdown = ["save"]\n')
    (tmp_path / "b").write_text(f'{GUEST.format("b")}on_host_shutdown = "migrate"\n')
    choices, (first, second) = own_choices(tmp_path)
    assert choices == {}
    why = "on_host_shutdown: expected save, shutdown or leave, got"
    assert first == f"{tmp_path}/a: {why} ['save']"
    assert second == f"{tmp_path}/b: {why} 'migrate'"
