"""The exit status says where the guest is, whatever becomes of words, and however signals come."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.lab.guests import CFG, TIMEOUT
from tests.parts import shortened

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AS_AT_A_TERMINAL = ("env", "--default-signal=HUP")
"""nohup has the tests ignore it, and so all that they start."""

PHASES = ("check", "quiesce", "save", "verify", "publish", "release")
CASES = [(phase, options) for phase in PHASES for options in ((), ("-c",), ("--live",))]

AUDITED = """
import sys
phase, late = "", []
sys.addaudithook(lambda event, found: event == "import" and phase and late.append(found[0]))
from xenqemu.cli import progress
observer = progress.observer
def noting(chosen):
    show = observer(chosen)
    def observe(event):
        global phase
        if event.kind.value == "started":
            phase = event.phase.value if event.phase.value != "check" else ""
        show(event)
    return observe
progress.observer = noting
from xenqemu.cli.main import main
code = main(sys.argv[1:])
print(*late, file=sys.stderr)
sys.exit(code)
"""


def burst(process: subprocess.Popen[str]) -> None:
    """Send nine signals within 60 ms, as far as there is anybody to send them to."""
    for number in SIGNALS * 3:
        process.send_signal(number)
        time.sleep(0.006)


@pytest.mark.parametrize(
    "case",
    shortened(CASES, ("quiesce", ()), ("save", ("--live",)), ("release", ())),
    ids=lambda case: " ".join([case[0], *case[1]]),
)
def test_signals_that_come_at_once_leave_one_guest(one, folder, case):
    phase, options = case
    guest, path = one.create(CFG.format(name="tiny", memory=16)), folder / "save"
    command = one.command("save", "--json", *options, guest.name, path)
    process = subprocess.Popen(
        [*AS_AT_A_TERMINAL, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        event = json.loads(line)
        if (event.get("phase"), event.get("event")) == (phase, "started"):
            burst(process)
            break
    _, err = process.communicate(timeout=TIMEOUT)
    assert "Traceback" not in err
    states = [each["state"] for each in one.list()]
    assert process.returncode in (0, 130), err
    if process.returncode == 0 and options != ("-c",):
        assert states == []
        assert one.restore(path).name == "tiny"
    else:
        assert states == ["running"], err
    assert one.run("recover").out == "nothing was left unfinished\n"


@pytest.mark.parametrize(
    "where", [">/dev/full", "--json >/dev/full", "| true", "2>&1 | true", "2>&-", ">&- 2>&- <&-"]
)
def test_what_is_done_is_done_whoever_hears_it(one, folder, where):
    one.create(CFG.format(name="tiny", memory=16))
    path, code = folder / "save", folder / "code"
    option, to = ("--json", where.removeprefix("--json")) if "--json" in where else ("", where)
    for words, there in (("save tiny", []), ("restore", ["tiny"])):
        command = " ".join(one.command(words, option, path))
        subprocess.run(["bash", "-c", f"({command}; echo $? >{code}) {to}"], check=True)
        assert (code.read_text(), [each["name"] for each in one.list()]) == ("0\n", there)


@pytest.mark.parametrize("options", [(), ("-c",), ("-p",)], ids=str)
def test_nothing_is_loaded_once_the_guest_is_touched(one, folder, options):
    """An import that a signal interrupts, or that has to be made to roll back, may fail."""
    one.create(CFG.format(name="tiny", memory=16))
    program = [sys.executable, "-c", AUDITED]
    counted = folder / "metrics.prom"
    words = ("save", *options, "--metrics", counted, "tiny", folder / "save")
    done = one.run(*words, program=program)
    assert (done.code, done.err) == (0, "\n")
    assert 'operations_total{verb="save",result="done"} 1' in counted.read_text()


def test_a_qemu_that_is_stopped_is_told_as_such(one):
    guest = one.create(CFG.format(name="tiny", memory=16))
    pid = guest.machine.pid
    conf = one.lab.folder / "conf"
    conf.write_text("deadlines.qemu_greeting = 0.5\n")
    try:
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
        out = one.run("--conf", conf, "status", "tiny").out
    finally:
        subprocess.run(["kill", "-CONT", str(pid)], check=True)
    why = f"its QEMU, process {pid}, is stopped by a signal (kill -CONT {pid})"
    assert out == f"domain {guest.domid} (tiny): hypervisor: {why}; name in xenstore: tiny\n"
