"""xl as a program; xl's words are those of xl 4.17."""

import time

import pytest

from tests.doubles.xen.xl_peer import write_xl
from xenqemu.errors import BadRecord, HostError, HostTimeout
from xenqemu.host.party_deadlines import Deadlines
from xenqemu.host.xen.xl import toolstack

UUID = "c52dca42-e6df-11f1-a061-0df29b9903a9"
TREE = {
    "c_info": {"type": "hvm", "name": "g1", "domid": 4294967295, "uuid": UUID},
    "b_info": {"max_vcpus": 1, "max_memkb": 16384},
}


@pytest.fixture
def xl(tmp_path):
    return lambda *parts: write_xl(tmp_path / "xl", *parts)


def test_the_listed_configuration(xl):
    listed = [{"domid": 2, "config": {}}, {"domid": 3, "config": TREE}]
    program = xl(f"assert words == ['list', '-l', '3']; print(json.dumps({listed!r}))")
    assert toolstack.listed_config(3, xl=program).tree == TREE


@pytest.mark.parametrize("listed", ["[]", "{}", '[{"domid": 4, "config": {}}]', "[3]"])
def test_a_list_without_the_domain(xl, listed):
    with pytest.raises(HostError, match="does not list domain 3"):
        toolstack.listed_config(3, xl=xl(f"print({listed!r})"))


@pytest.mark.parametrize("listed", ["", "[", '[{"domid": 3}]', '[{"domid": 3, "config": 5}]'])
def test_a_list_that_is_none(xl, listed):
    with pytest.raises(BadRecord):
        toolstack.listed_config(3, xl=xl(f"print({listed!r})"))


def test_what_xl_says_when_it_fails(xl):
    program = xl(
        """
        for n in range(20): print("line", n, file=sys.stderr)
        fail("  libxl: error: what was wrong ", 3)
        """
    )
    with pytest.raises(HostError) as caught:
        toolstack.run_xl("list", xl=program)
    lines = "; ".join(f"line {n}" for n in range(13, 20))
    assert str(caught.value) == f"xl list failed (3): {lines}; libxl: error: what was wrong"


def test_an_xl_that_fails_without_a_word(xl):
    with pytest.raises(HostError, match=r"xl list failed \(1\): no reason given"):
        toolstack.run_xl("list", xl=xl("sys.exit(1)"))


def test_an_xl_that_hangs(xl):
    start = time.monotonic()
    with pytest.raises(HostTimeout, match=r"xl destroy did not end within 0\.3 s"):
        toolstack.destroy(3, Deadlines(xl_command=0.3), xl("time.sleep(60)"))
    assert time.monotonic() - start < 5


def test_an_xl_that_is_not_there(tmp_path):
    with pytest.raises(HostError, match="cannot run xl list"):
        toolstack.run_xl("list", xl=(str(tmp_path / "none"),))


def test_a_domain_is_destroyed(xl, tmp_path):
    toolstack.destroy(3, xl=xl(f"open({str(tmp_path / 'done')!r}, 'w').write(' '.join(words))"))
    assert (tmp_path / "done").read_text() == "destroy 3"


def test_a_guest_is_asked_to_shut_down(xl, tmp_path):
    toolstack.shut_down(3, xl=xl(f"open({str(tmp_path / 'done')!r}, 'w').write(' '.join(words))"))
    assert (tmp_path / "done").read_text() == "shutdown -F 3"
    with pytest.raises(HostError, match=r"xl shutdown failed \(1\): no such domain"):
        toolstack.shut_down(3, xl=xl("fail('no such domain')"))


GONE = """
    if words[0] == "destroy": fail("libxl: error: Domain 3:Non-existent\\ndestroy failed (rc=-21)")
    assert words == ["list", "3"]
    """


def test_a_domain_that_is_gone_is_destroyed_already(xl):
    toolstack.destroy(3, xl=xl(GONE, "fail(\"Error: Domain '3' does not exist.\")"))


def test_a_domain_that_stays_is_an_error(xl):
    with pytest.raises(HostError, match=r"xl destroy failed .*destroy failed \(rc=-21\)"):
        toolstack.destroy(3, xl=xl(GONE))


def test_whether_a_domain_exists_may_be_impossible_to_tell(xl):
    with pytest.raises(HostError, match="cannot init xl context"):
        toolstack.exists(3, xl=xl("fail('cannot init xl context')"))


def test_the_free_memory(xl):
    program = xl("assert words == ['info']; print('nr_cpus : 2\\nfree_memory            : 3')")
    assert toolstack.free_memory(xl=program) == 3 << 20


def test_an_xl_that_does_not_say_how_much_memory_is_free(xl):
    with pytest.raises(HostError, match="xl info does not say how much memory is free"):
        toolstack.free_memory(xl=xl("print('free_memory : much')"))
