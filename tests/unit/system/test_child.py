"""Programs that end; how they fail is shown by xl too (host/xen/xl/test_toolstack.py)."""

import pytest

from xenqemu.errors import HostError, HostTimeout
from xenqemu.system import child
from xenqemu.system.process import last_words


def test_what_is_given_and_what_is_printed():
    assert child.run("cat", ["cat"], 10, "größe\n") == "größe\n"
    assert child.run("cat", ["cat"], 10) == ""
    assert child.run("printf", ["printf", r"\377"], 10) == r"\xff"


def test_a_program_that_fails():
    with pytest.raises(HostError, match=r"^looking failed \(2\): .*/none.*No such file"):
        child.run("looking", ["ls", "/none"], 10)


def test_a_program_that_hangs():
    with pytest.raises(HostTimeout, match=r"sleeping is not done within 0\.1 s"):
        child.run("sleeping", ["sleep", "60"], 0.1)


def test_words_in_one_line():
    assert last_words(b"\n one \n\n two\n") == "one; two"
    assert last_words(b" \n") == "it does not say why"
