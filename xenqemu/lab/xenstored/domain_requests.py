"""The requests about domains, and CONTROL."""

from __future__ import annotations

from collections.abc import Callable

from xenqemu.errors import StoreError
from xenqemu.formats.xenstore import Op
from xenqemu.lab.xenstored import paths, xs_wire
from xenqemu.lab.xenstored.answer import Reply
from xenqemu.lab.xenstored.domains import Domains
from xenqemu.lab.xenstored.tree import Change, Tree
from xenqemu.lab.xenstored.xs_wire import number

HELP = "help\t\nshutdown\t<domid>\n"

_INTRODUCED = Change(paths.INTRODUCE, exact=True)
_RELEASED = Change(paths.RELEASE, exact=True)


def introduce(domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """INTRODUCE domid|gfn|evtchn|; there is no page to map and no port to bind."""
    domid, _gfn, port = xs_wire.words(payload, 3)[:3]
    if not number(port):
        raise StoreError("port 0 is not an event channel", "EINVAL")
    return Reply(changes=[_INTRODUCED] if domains.introduce(number(domid)) else [])


def release(domains: Domains, live: Tree, payload: bytes) -> Reply:
    """RELEASE domid|: the nodes that the domain owns go with it."""
    domid = _domid(payload)
    domains.release(domid)
    return Reply(changes=[*live.forget(domid), _RELEASED])


def resume(domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """RESUME domid|: its next shutdown is announced again."""
    domains.resume(_domid(payload))
    return Reply()


def get_domain_path(_domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """GET_DOMAIN_PATH domid| -> path|."""
    return Reply(xs_wire.join(f"/local/domain/{_domid(payload)}"))


def is_domain_introduced(domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """IS_DOMAIN_INTRODUCED domid| -> T| or F|."""
    return Reply(xs_wire.join("T" if domains.introduced(_domid(payload)) else "F"))


def set_target(domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """SET_TARGET domid|tdomid|: grants what every connection here may do anyway."""
    for domid in xs_wire.words(payload, 2)[:2]:
        if not domains.introduced(number(domid)):
            raise StoreError(f"domain {domid} was not introduced", "ENOENT")
    return Reply()


def control(domains: Domains, _live: Tree, payload: bytes) -> Reply:
    """CONTROL help| -> text|, CONTROL shutdown|domid|."""
    command = xs_wire.words(payload, 1)
    if command == ["help"]:
        return Reply(xs_wire.join(HELP))
    if len(command) != 2 or command[0] != "shutdown":
        raise StoreError(f"no control command {command}", "EINVAL")
    return Reply(changes=[_RELEASED] if domains.shut_down(number(command[1])) else [])


HANDLERS: dict[int, Callable[[Domains, Tree, bytes], Reply]] = {
    Op.INTRODUCE: introduce,
    Op.RELEASE: release,
    Op.RESUME: resume,
    Op.GET_DOMAIN_PATH: get_domain_path,
    Op.IS_DOMAIN_INTRODUCED: is_domain_introduced,
    Op.SET_TARGET: set_target,
    Op.CONTROL: control,
}


def _domid(payload: bytes) -> int:
    (domid,) = xs_wire.words(payload, 1, 1)
    return number(domid)
