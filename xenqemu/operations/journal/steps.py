"""What operations do that may have to be done again, by somebody else: acts with a name.

A step is written to the operation's file before it can become needed, so all of it is words and
numbers; whoever reads it there does the same act.  Each act may be repeated, may come although
what it takes back never happened, and looks first whether the domain of that id is still the one
that is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from inspect import signature
from typing import Any

from xenqemu.errors import HostError
from xenqemu.host.domain_state import state
from xenqemu.host.protocol import DomainInfo, Host, MaySuspendYet, RunState
from xenqemu.operations import guest_leases
from xenqemu.system.staged_file import Draft, Identity, Traces

Arguments = Mapping[str, Any]

KEEP_DISKS = "keep disks"
"""The act of a step that has a guest's disk images for this host alone."""

SETTLE = "settle"
"""The act of a step that only looks out for a guest that suspends late."""


class Overtaken(HostError):
    """Somebody has ended the domain meanwhile, or let it go on: nothing is left to do to it."""


@dataclass(frozen=True)
class Step:
    """An act by name; `what` completes the sentence "could not …"."""

    act: str
    what: str
    arguments: Arguments = field(default_factory=dict)

    def perform(self, host: Host) -> None:
        """Do it; raises what the act raises, `Overtaken` if there is no sense in it any more."""
        _ACTS[self.act](host, **self.arguments)

    def line(self) -> Mapping[str, Any]:
        """Return it as it stands in an operation's file."""
        return asdict(self)

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Step:
        """Return the step that a line of an operation's file holds.

        Raises `KeyError` or `TypeError` for what is no step.
        """
        step = cls(line["act"], str(line["what"]), line["arguments"])
        act = _ACTS.get(step.act) or _QUESTIONS[step.act]
        signature(act).bind(None, **step.arguments)
        return step


@dataclass(frozen=True)
class Commit:
    """A point of no return: `question` tells whether it was passed, `then` is done after it.

    `meaning` says what is the guest from then on.  Without a question nobody here can tell.
    """

    question: Step | None
    meaning: str
    then: tuple[Step, ...] = ()

    def passed(self, host: Host) -> bool:
        """Tell whether it was passed: seen, since an act whose answer was lost has been done."""
        if self.question is None:
            return False
        return _QUESTIONS[self.question.act](host, **self.question.arguments)

    def line(self) -> Mapping[str, Any]:
        """Return it as it stands in an operation's file."""
        return asdict(self)

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Commit:
        """Return the point that a line of an operation's file holds."""
        then = tuple(map(Step.of, line["then"]))
        question = line["question"]
        return cls(question and Step.of(question), line["meaning"], then)


def resume(domid: int, uuid: str) -> Step:
    """Let a suspended guest go on."""
    return Step("resume", "resume the guest", {"domid": domid, "uuid": uuid})


def settle(domid: int, uuid: str) -> Step:
    """Take back a request to suspend, and resume a guest that suspends all the same."""
    what = "see whether the guest suspends yet"
    return Step(SETTLE, what, {"domid": domid, "uuid": uuid})


def watch(domid: int, uuid: str) -> Step:
    """The same for a guest that hardly suspends any more, as the request was taken back."""
    what = "see whether the guest suspends yet"
    return Step("watch", what, {"domid": domid, "uuid": uuid})


def restart(domid: int, uuid: str) -> Step:
    """Let the device model go on."""
    return Step("restart", "restart the device model", {"domid": domid, "uuid": uuid})


def stop_dirty_log(domid: int, uuid: str) -> Step:
    """Have nobody note any more which pages of the guest change."""
    what = "stop noting which pages change"
    return Step("stop dirty log", what, {"domid": domid, "uuid": uuid})


def unpause(domid: int, uuid: str) -> Step:
    """Release the guest."""
    return Step("unpause", "unpause the guest", {"domid": domid, "uuid": uuid})


def rename(domid: int, uuid: str, old: str, new: str) -> Step:
    """Give a domain its name back."""
    arguments = {"domid": domid, "uuid": uuid, "old": old, "new": new}
    return Step("rename", f"call domain {domid} {new} again", arguments)


def destroy(domid: int, uuid: str) -> Step:
    """End a domain that was saved or handed over, and stands still."""
    return Step("destroy", f"destroy domain {domid}", {"domid": domid, "uuid": uuid})


def sweep(name: str, uuid: str) -> Step:
    """End what was built, or was being built, under this name, if it has not run."""
    return Step("sweep", f"destroy what was built of {name}", {"name": name, "uuid": uuid})


def keep_disks(uuid: str, images: Sequence[str]) -> Step:
    """Note that the guest is here for good, and may write its images."""
    what = "note that the guest's disks are for this host"
    return Step(KEEP_DISKS, what, {"uuid": uuid, "images": list(images)})


def clear(traces: Traces) -> Step:
    """Remove what a draft left in its folder."""
    return Step("clear", f"clear {traces.temporary} away", asdict(traces))


def published(draft: Draft) -> Step:
    """Ask whether the draft has its final name."""
    return Step("published", "", {"path": draft.traces.path, **asdict(draft.identity)})


def has_run(domid: int, uuid: str) -> Step:
    """Ask whether a domain that was to be let run cannot be said to stand still."""
    return Step("has run", "", {"domid": domid, "uuid": uuid})


def called(domid: int, uuid: str, name: str) -> Step:
    """Ask whether a domain has a name."""
    return Step("called", "", {"domid": domid, "uuid": uuid, "name": name})


def cont(host: Host, domid: int) -> None:
    """Let the device model of a domain go on; nothing if it has none."""
    device_model = host.device_model(domid)
    if device_model is not None:
        with device_model:
            device_model.cont()


def _present(host: Host, domid: int, uuid: str) -> DomainInfo:
    info = host.hypervisor.info(domid)
    if info is None or info.run_state is RunState.DYING or info.uuid.lower() != uuid.lower():
        raise Overtaken(f"domain {domid} is gone: it was destroyed, or ended, meanwhile")
    return info


def _resume(host: Host, domid: int, uuid: str) -> None:
    _present(host, domid, uuid)
    host.hypervisor.resume(domid)


def _settle(host: Host, domid: int, uuid: str) -> None:
    _present(host, domid, uuid)
    host.hypervisor.settle(domid)
    host.hypervisor.resume(domid)


def _watch(host: Host, domid: int, uuid: str) -> None:
    with suppress(MaySuspendYet):  # it was not asked any more: it will not
        _settle(host, domid, uuid)


def _restart(host: Host, domid: int, uuid: str) -> None:
    _present(host, domid, uuid)
    cont(host, domid)


def _stop_dirty_log(host: Host, domid: int, uuid: str) -> None:
    _present(host, domid, uuid)
    host.hypervisor.stop_dirty_log(domid)


def _unpause(host: Host, domid: int, uuid: str) -> None:
    _present(host, domid, uuid)
    host.hypervisor.unpause(domid)


def _rename(host: Host, domid: int, uuid: str, old: str, new: str) -> None:
    _present(host, domid, uuid)
    host.rename(domid, old, new)


def _destroy(host: Host, domid: int, uuid: str) -> None:
    """End a domain that its record has replaced, and what is left of it."""
    info = host.hypervisor.info(domid)
    if info is not None:
        if info.uuid.lower() != uuid.lower():
            return
        _require_still(info)
    host.destroy(domid)


def _sweep(host: Host, name: str, uuid: str) -> None:
    for domid in host.domids_of(name, uuid):
        info = host.hypervisor.info(domid)
        if info is not None:
            _require_still(info)
        host.destroy(domid)


def _require_still(info: DomainInfo) -> None:
    if info.run_state is RunState.RUNNING:
        raise Overtaken(f"domain {info.domid} runs: somebody has let it go on")


def _keep_disks(host: Host, uuid: str, images: Sequence[str]) -> None:
    guest_leases.settle(host, uuid, images)


def _clear(_host: Host, path: str, temporary: str) -> None:
    Traces(path, temporary).clear()


def _published(_host: Host, path: str, device: int, inode: int) -> bool:
    return Identity(device, inode).is_at(path)


def _has_run(host: Host, domid: int, uuid: str) -> bool:
    now = state(host, domid)
    if now.info is None or now.info.uuid.lower() != uuid.lower():
        return bool(now.trouble)
    still = (RunState.PAUSED, RunState.SUSPENDED)
    return bool(now.trouble) or now.info.run_state not in still


def _called(host: Host, domid: int, uuid: str, name: str) -> bool:
    _present(host, domid, uuid)
    return state(host, domid).name == name


_ACTS: Mapping[str, Callable[..., None]] = {
    "resume": _resume,
    SETTLE: _settle,
    "watch": _watch,
    "restart": _restart,
    "stop dirty log": _stop_dirty_log,
    "unpause": _unpause,
    "rename": _rename,
    "destroy": _destroy,
    "sweep": _sweep,
    KEEP_DISKS: _keep_disks,
    "clear": _clear,
}
_QUESTIONS: Mapping[str, Callable[..., bool]] = {
    "published": _published,
    "has run": _has_run,
    "called": _called,
}
