"""Send a running guest to another host, in xl's language: the order of acts and their undo.

The guest is suspended here, under another name, before the other host is told that it may unpause
it.  From then on until its answer the operation is in doubt: nobody here knows which copy runs, and
an error in between leaves everything as it is, and names both.  An error before, or an answer that
gives the guest back, rolls the operation back.
"""

from __future__ import annotations

from contextlib import ExitStack

from xenqemu.errors import HostError
from xenqemu.formats.migration.handshake import Message
from xenqemu.formats.migration.wrapping import Wrapper
from xenqemu.host.domain import Domain
from xenqemu.host.peer.command import OnStderrLine, ignore_line
from xenqemu.host.peer.extra_streams import streams_by
from xenqemu.host.peer.peer_messages import Peer, receiver_by
from xenqemu.host.peer.route import Route, Rune
from xenqemu.host.protocol import Host
from xenqemu.host.xenstore.names import AWAY
from xenqemu.operations import guest_leases
from xenqemu.operations.check_guest import Outgoing
from xenqemu.operations.events import Observer, Phase, unobserved
from xenqemu.operations.journal import steps
from xenqemu.operations.journal.log import About
from xenqemu.operations.journal.operation import Operation
from xenqemu.operations.options import MigrateOptions, seconds_for
from xenqemu.operations.outgoing_guest import UNKNOWN_CHANGES, OutgoingGuest, written_config
from xenqemu.operations.preflight import MigrationPlan, agree


def migrate(
    host: Host,
    domain: Domain,
    to: Rune,
    options: MigrateOptions = MigrateOptions(),
    *,
    observe: Observer = unobserved,
    on_stderr: OnStderrLine = ignore_line,
) -> None:
    """Migrate a running domain to the host `to`; it is gone from here then.

    A command, and `to` where that is the whole command, is a line for a shell or words for none.

    With precopy options the guest runs while it is sent, until these have it suspended, if the host
    can tell which of its pages change.  Compression and extra streams need a xenqemu at the other
    end.  `on_stderr` is called with each line that the other host says for people.

    Raises what the tree in `xenqemu.errors` says; unless it is a `PastReturn` or `Stranded`, the
    guest is as it was.  `OutcomeUnknown` says where both copies are.
    """
    route = Route(to, options.command)
    own = host.config(domain.domid)
    config = written_config(domain, own, options.config, keep_domid=options.keep_domid)
    about = About("migration", domain.domid, domain.name, domain.uuid, route.name)
    with Operation.begin(host, about, observe, seconds_for(host, options)) as job:
        guest = OutgoingGuest(host, domain, job)
        precopy = options.precopy
        with job.phase(Phase.CHECK):
            guest.require_savable(Outgoing(own, config, options.config, to_file=False))
            may_run = guest.may_run()  # loads what writes its memory: not while it is suspended
            if precopy and not may_run:
                precopy = None
                job.note(f"{UNKNOWN_CHANGES}: it is suspended for the whole migration")
            needs = host.needs(domain.domid, config)
            plan = MigrationPlan(
                needs, route, _for_receiver(options), options.compress, options.streams
            )
            agreed = agree(host, plan, on_stderr)
            images = guest_leases.images(own)
        with receiver_by(agreed.rune, on_stderr, host.deadlines) as peer, ExitStack() as stack:
            with job.phase(Phase.CONNECT):
                peer.receive()
                if images:  # the other host becomes the next owner of their leases
                    job.undo(steps.KeepDisks(domain.uuid, images))
                streams = streams_by(agreed.extra, peer, on_stderr, host.deadlines)
                extra = stack.enter_context(streams)
            out = Wrapper(peer, agreed.features, extra)
            if precopy:
                guest.write_running(out, config, precopy, live=True, watch=job.iteration)
            else:
                guest.write(out, config, live=True, ready=lambda _state: None)
            out.finish()
            with job.phase(Phase.HANDOVER):
                peer.receive()
                _hand_over(guest, peer, route.name)
            with job.phase(Phase.RELEASE):
                job.finish()


def _for_receiver(options: MigrateOptions) -> tuple[str, ...]:
    """Return the options that are the receiver's, as with xl."""
    words = []
    if not options.monitor:
        words.append("-e")
    if options.paused:
        words.append("-p")
    return tuple(words)


def _hand_over(guest: OutgoingGuest, peer: Peer, where: str) -> None:
    """Let the other host have the guest, and wait for its answer; it may give it back."""
    name = guest.domain.name
    away = name + AWAY
    guest.rename(name, away)
    commit = steps.Commit(None, f"the guest is on {where} now", (steps.Destroy(*guest.who),))
    guest.job.doubt(
        commit,
        f"nobody here can tell which copy lives: domain {guest.domid} is suspended here as {away}, "
        f"{name} may run on {where}; look at both, then run `xenqemu recover --moved {name}` "
        f"or `--stayed {name}`",
    )
    try:
        peer.send(Message.GO)
    except HostError:  # the message was not sent
        guest.job.resolve(passed=False)
        raise
    peer.receive()
    if peer.receive() is Message.STARTED:
        guest.job.resolve(passed=True)
        return
    peer.receive()
    guest.job.resolve(passed=False)
    code = peer.handshake.code
    raise HostError(f"{where} could not start the guest (its status is {code}) and gave it back")
