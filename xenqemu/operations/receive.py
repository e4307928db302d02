"""Receive a guest from another host, in xl's language: the order of acts and their undo.

The guest is built paused, under a temporary name.  The point of no return is when it is unpaused
or, if it is to stay paused, renamed.  Until then the sender has it; a sender that waits is told
that it can have it back, once nothing is left of the copy here.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from xenqemu.errors import HostError
from xenqemu.formats.config.domain_config import DomainConfig
from xenqemu.formats.migration.handshake import HandshakeState, Message
from xenqemu.formats.migration.wrapping import Unwrapper
from xenqemu.host.domain import Domain
from xenqemu.host.domain_state import require_running
from xenqemu.host.findings import require
from xenqemu.host.peer.peer_messages import Peer
from xenqemu.host.peer.rendezvous import Rendezvous
from xenqemu.host.protocol import BuildOptions, Host, Needs
from xenqemu.host.xenstore.names import INCOMING
from xenqemu.operations import guest_leases
from xenqemu.operations.check_restore import takeable
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.journal.steps import Commit
from xenqemu.operations.options import ReceiveOptions, seconds_for
from xenqemu.operations.outcome import GuestHooks, no_hooks
from xenqemu.operations.save_file import config_within

WAITS = (HandshakeState.RECEIVED, HandshakeState.CLEARED)
"""Where the sender waits for the outcome."""


def receive(
    host: Host,
    peer: Peer,
    options: ReceiveOptions = ReceiveOptions(),
    *,
    features: frozenset[str] = frozenset(),
    rendezvous: Rendezvous | None = None,
    observe: Observer = unobserved,
    hooks: GuestHooks = no_hooks,
) -> int:
    """Receive the guest that `peer` sends; return the id of its domain, which runs if not paused.

    `features` say how its save file is wrapped, which comes over all streams of the `rendezvous`
    if there is one.  `hooks` are run around it, once the guest is known.

    Errors before anything was built are raised as they are; `RolledBack` means that nothing is left
    of the attempt, `PastReturn` that the guest is here.
    """
    peer.send(Message.BANNER)
    extra = rendezvous.streams(peer.wire) if rendezvous else ()
    wrapped = Unwrapper(peer.save_file(), features, extra)
    config = config_within(
        wrapped.source, min(host.deadlines.peer_message, seconds_for(host, options))
    )
    with hooks("receive", name=config.name, uuid=config.uuid):
        return _received(
            host, peer, config, wrapped, options, rendezvous=rendezvous, observe=observe
        )


def _received(
    host: Host,
    peer: Peer,
    config: DomainConfig,
    wrapped: Unwrapper,
    options: ReceiveOptions,
    *,
    rendezvous: Rendezvous | None,
    observe: Observer,
) -> int:
    """Receive the guest of a config that has been read; see `receive`."""
    incoming = config.with_name(config.name + INCOMING)
    about = About("reception", 0, config.name, config.uuid, config.name)
    job = Operation.begin(host, about, observe, seconds_for(host, options))
    try:
        with job:
            with job.phase(Phase.CHECK):
                found = takeable(host, Needs(config, 0, moving=True), config, quick=True)
                for warning in require(found, f"{config.name} cannot be received here"):
                    job.note(str(warning))
            with job.phase(Phase.BUILD):
                job.undo(steps.DestroyIncomplete(incoming.name, incoming.uuid))
                how = BuildOptions(0, incoming, options.monitor)
                domid = host.build(wrapped.source, job.progress, how)
                wrapped.finish()
                if rendezvous:
                    rendezvous.taken()
            with job.phase(Phase.HANDOVER):
                peer.send(Message.READY)
                _take_over(host, domid, config, peer, job, paused=options.paused)
            with job.phase(Phase.RELEASE):
                job.finish()
                if not options.paused:
                    _announce(host, domid, config)
                    require_running(host, Domain(domid, config.uuid, config.name, config.type))
    except BaseException:
        if job.state.undone and peer.handshake.state is HandshakeState.FAILED:
            _say(peer, Message.BACK)
        raise
    return domid


def _take_over(
    host: Host, domid: int, config: DomainConfig, peer: Peer, job: Operation, *, paused: bool
) -> None:
    """Wait until the guest is ours, unpause it, and report that; or report that it failed."""
    try:
        peer.receive()
        _unpause(host, domid, config, job, paused=paused)
    except BaseException:
        if not job.state.committed and peer.handshake.state in WAITS:
            _say(peer, Message.REPORT, Message.FAILED)
        raise
    peer.send(Message.REPORT)
    peer.send(Message.STARTED)


def _unpause(host: Host, domid: int, config: DomainConfig, job: Operation, *, paused: bool) -> None:
    name, uuid = config.name, config.uuid
    incoming = name + INCOMING
    job.undo(steps.Rename(domid, uuid, name, incoming))
    rename = partial(host.rename, domid, incoming, name)
    meaning = f"domain {domid} may have run already: it is the guest now"
    images = guest_leases.images(config)
    then = (steps.KeepDisks(uuid, images),) if images else ()
    guest_leases.claim(host, uuid, images)  # destroying the copy gives them back
    if paused:
        job.commit(rename, Commit(steps.HasName(domid, uuid, name), meaning, then))
        return
    rename()
    steps.cont(host, domid)  # as libxl does: a confined QEMU waits for it
    act = partial(host.hypervisor.unpause, domid)
    job.commit(act, Commit(steps.HasRun(domid, uuid), meaning, then))


def _announce(host: Host, domid: int, config: DomainConfig) -> None:
    """Announce the guest's emulated cards to the network; a failure only delays its packets."""
    device_model = host.device_model(domid)
    if device_model is not None and any(nic.nictype != "vif" for nic in config.nics):
        with suppress(HostError), device_model:
            device_model.announce()


def _say(peer: Peer, *messages: Message) -> None:
    """Send messages to a sender that may be gone: it sees the connection end then."""
    with suppress(HostError):
        for message in messages:
            peer.send(message)
