"""What is in a folder that people edit, and is none of its files."""

import pytest

from xenqemu.system.edited_folder import is_beside


@pytest.mark.parametrize("name", ["web", "web.cfg", "web.1", "10-guard", "a#b", "web.old", "swap"])
def test_a_file_is_itself(name):
    assert not is_beside(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".web.cfg.swp", ".#web.cfg", ".git", "web.cfg~", "web.cfg.~1~", "#web.cfg#"),
        *("web.cfg.swp", "web.bak", "web.cfg.orig", "web.cfg.rej", "web.save", "web.cfg,v"),
        *("web.dpkg-old", "web.cfg.dpkg-dist", "web.ucf-dist", "web.rpmsave", "web.rpmnew"),
    ],
)
def test_what_a_program_keeps_beside_a_file_is_known_by_its_name(name):
    assert is_beside(name)
