"""The commands: what each takes, since when, and what it does.

Importing this module fills the table that `model.known` looks into.
"""

from __future__ import annotations

import os

from xenqemu.errors import FormatError
from xenqemu.lab.reference_device_model import qemu_versions
from xenqemu.lab.reference_device_model.fdsets import PREFIX
from xenqemu.lab.reference_device_model.model import Arguments, Ended, Model, command, known
from xenqemu.lab.reference_device_model.qemu_versions import Refusal, cannot_open, cannot_write
from xenqemu.lab.reference_device_model.run_states import Died, QemuRunState
from xenqemu.lab.reference_device_model.saved_state import check, write


@command("query-version")
def query_version(model: Model, _arguments: Arguments) -> object:
    """Return the version, as the greeting has it."""
    major, minor, micro = model.version
    return {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": "reference"}


@command("query-commands")
def query_commands(model: Model, _arguments: Arguments) -> object:
    """Return the names of all commands."""
    return [{"name": name} for name in known(model.version)]


@command("query-status")
def query_status(model: Model, _arguments: Arguments) -> object:
    """Return the run state."""
    return {"running": model.machine.running, "status": model.machine.state.value}


@command("query-migrate")
def query_migrate(model: Model, _arguments: Arguments) -> object:
    """Return the state of the load, and the migration blockers."""
    blocked = model.blockers and model.version >= qemu_versions.BLOCKERS
    return model.migration | ({"blocked-reasons": model.blockers} if blocked else {})


@command("stop")
def stop(model: Model, _arguments: Arguments) -> object:
    """Stop the vcpus."""
    model.machine.stop()
    return {}


@command("cont")
def cont(model: Model, _arguments: Arguments) -> object:
    """Start the vcpus."""
    model.machine.cont()
    return {}


@command("quit")
def quit_(model: Model, _arguments: Arguments) -> object:
    """End the process, after the reply."""

    def end() -> None:
        raise Ended

    model.emit("SHUTDOWN")
    model.later.append(end)
    return {}


@command("xen-set-global-dirty-log", (1, 3, 0), required={"enable": bool})
def xen_set_global_dirty_log(_model: Model, _arguments: Arguments) -> object:
    """Do nothing, as where the accelerator is not Xen."""
    return {}


@command(
    "save_devices",
    qemu_versions.SIXTH_POSTING,
    qemu_versions.SEVENTH_POSTING,
    required={"filename": str},
)
@command(
    "save-devices-state",
    qemu_versions.SEVENTH_POSTING,
    qemu_versions.RELEASED,
    required={"filename": str},
)
@command(
    "xen-save-devices-state", qemu_versions.RELEASED, qemu_versions.LIVE, required={"filename": str}
)
@command(
    "xen-save-devices-state",
    qemu_versions.LIVE,
    required={"filename": str},
    optional={"live": bool},
)
def save_devices(model: Model, arguments: Arguments) -> object:
    """Save the state of all devices; a machine that runs is stopped meanwhile."""
    machine = model.machine
    was_running = machine.running
    machine.vm_stop(QemuRunState.SAVE_VM)
    try:
        _save_to(model, arguments["filename"])
    finally:
        if was_running:
            machine.vm_start()
    if model.version >= qemu_versions.LIVE and arguments.get("live", True) and not was_running:
        machine.inactivate()
    return {}


def _save_to(model: Model, filename: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        in_set = filename.startswith(PREFIX) and model.version >= qemu_versions.ONE_CLASS
        fd = model.fdsets.open(filename, flags) if in_set else os.open(filename, flags, 0o660)
    except OSError as error:
        raise cannot_open(model.version, filename, error) from error
    if model.blockers:
        os.close(fd)
        raise Died("a device without a description of its state was saved")
    try:
        write(fd, model.registry)
    except OSError as error:
        raise cannot_write(model.version) from error
    finally:
        os.close(fd)


@command("add-fd", (1, 2, 0), optional={"fdset-id": int, "opaque": str})
def add_fd(model: Model, arguments: Arguments) -> object:
    """Add the descriptor that came with the command to a set."""
    number = arguments.get("fdset-id")
    fd = model.received_fd()
    if number is not None and number < 0:
        os.close(fd)
        raise Refusal("Parameter 'fdset-id' expects a non-negative value")
    return {"fdset-id": model.fdsets.add(fd, number, arguments.get("opaque")), "fd": fd}


@command("remove-fd", (1, 2, 0), required={"fdset-id": int}, optional={"fd": int})
def remove_fd(model: Model, arguments: Arguments) -> object:
    """Remove a descriptor or a whole set."""
    number, fd = arguments["fdset-id"], arguments.get("fd")
    try:
        model.fdsets.remove(number, fd, running=model.machine.running)
    except KeyError as error:
        name = f"fdset-id:{number}" + ("" if fd is None else f", fd:{fd}")
        raise Refusal(f"File descriptor named '{name}' not found") from error
    return {}


@command("query-fdsets", (1, 2, 0))
def query_fdsets(model: Model, _arguments: Arguments) -> object:
    """Return all sets, the newest first."""
    return [
        {
            "fdset-id": number,
            "fds": [
                {"fd": fd} | ({"opaque": text} if text else {}) for fd, text in each.fds.items()
            ],
        }
        for number, each in reversed(model.fdsets.sets.items())
    ]


@command("getfd", required={"fdname": str})
def getfd(model: Model, arguments: Arguments) -> object:
    """Keep the descriptor that came with the command under a name."""
    name = arguments["fdname"]
    fd = model.received_fd()
    if name[:1].isdigit():
        os.close(fd)
        raise Refusal("Parameter 'fdname' expects a name not starting with a digit")
    if name in model.names:
        os.close(model.names[name])
    model.names[name] = fd
    return {}


@command("migrate-incoming", (2, 4, 0), (9, 1, 0), required={"uri": str})
@command("migrate-incoming", (9, 1, 0), required={"uri": str}, optional={"exit-on-error": bool})
def migrate_incoming(model: Model, arguments: Arguments) -> object:
    """Load a state from a descriptor kept by `getfd`, after the reply."""
    if model.migration:
        raise Refusal("The incoming migration has already been started")
    if model.machine.state is not QemuRunState.INMIGRATE:
        raise Refusal("'-incoming' was not specified on the command line")
    name = arguments["uri"].removeprefix("fd:")
    if name not in model.names:
        raise Refusal(f"File descriptor named '{name}' has not been found")
    fd = model.names.pop(name)
    model.migration = {"status": "setup"}
    model.later.append(lambda: _load(model, fd, outlive=not arguments.get("exit-on-error", True)))
    return {}


def _load(model: Model, fd: int, *, outlive: bool) -> None:
    try:
        check(fd, model.registry)
    except FormatError as error:
        if not outlive:
            raise Died(f"load of migration failed: {error}") from error
        model.migration = {"status": "failed", "error-desc": str(error)}
    else:
        model.migration = {"status": "completed"}
        model.machine.loaded()
    finally:
        os.close(fd)
