"""Commands to another host are those of xl."""

import pytest

from xenqemu.errors import UsageError
from xenqemu.host.peer.route import XENQEMU, XL, Route

BOTH = (XENQEMU, XL)


@pytest.mark.parametrize(
    ("route", "options", "rune"),
    [
        (Route("web2"), (), "exec ssh web2 xl migrate-receive"),
        (Route("web2"), ("-e", "-p"), "exec ssh web2 xl migrate-receive -e -p"),
        (Route("web2", "ssh -p 22"), ("-e",), "exec ssh -p 22 web2 xl migrate-receive -e"),
        (Route("nc web2 99", ""), (), "nc web2 99"),
    ],
)
def test_stock_receivers(route, options, rune):
    assert route.receiver(XL, *options) == rune


def test_our_own():
    assert Route("h").receiver(XENQEMU, "--preflight") == (
        "exec ssh h xenqemu migrate-receive --preflight"
    )
    whole = Route("xenqemu --host lab:/x migrate-receive", "")
    assert whole.receiver(XENQEMU, "-p") == "xenqemu --host lab:/x migrate-receive -p"


WORDS = ("ssh", "-p", "22")


def test_words_stay_words():
    assert Route("web2; reboot", WORDS).receiver(XENQEMU, "-p") == (
        *WORDS,
        *("web2; reboot", "xenqemu", "migrate-receive", "-p"),
    )
    whole = Route(("ssh", "web2", "/opt/xenqemu", "migrate-receive", "-e"), ())
    assert whole.programs == (XENQEMU,)
    assert whole.receiver(XENQEMU, "-p") == (*whole.host, "-p")
    assert whole.name == "ssh web2 /opt/xenqemu migrate-receive -e"
    assert Route(("ssh", "web2", "xl", "migrate-receive"), ()).programs == (XL,)
    assert Route(("nc", "xenqemu", "99"), ()).programs == (XL,)


@pytest.mark.parametrize("host", ["", "-oProxyCommand=reboot", ("web2", "x")])
def test_a_host_that_is_an_option_is_refused(host):
    with pytest.raises(UsageError, match="cannot be the name of a host"):
        Route(host, WORDS)


def test_a_whole_command_is_run_as_it_stands():
    with pytest.raises(UsageError, match="write -e -p into the command: nc web2 99"):
        Route("nc web2 99", "").receiver(XL, "-e", "-p")


@pytest.mark.parametrize(
    ("route", "programs"),
    [
        (Route("web2"), BOTH),
        (Route("xenqemu migrate-receive"), BOTH),
        (Route("xl migrate-receive", ""), (XL,)),
        (Route("ssh h xl migrate-receive", ""), (XL,)),
        (Route("xenqemu migrate-receive", ""), (XENQEMU,)),
        (Route("ssh h /opt/bin/xenqemu --host lab:/a migrate-receive -e ", ""), (XENQEMU,)),
        (Route("cd /x; python3 -m xenqemu migrate-receive", ""), (XENQEMU,)),
        (Route("xenqemu migrate-receive | tee log", ""), (XL,)),
        (Route("xenqemu migrate-receive; true", ""), (XL,)),
        (Route("xenqemu lab up; xl migrate-receive", ""), (XL,)),
        (Route("xenqemu migrate-received", ""), (XL,)),
        (Route("socat - TCP:h:99", ""), (XL,)),
    ],
)
def test_who_may_receive(route, programs):
    assert route.programs == programs
