"""dom0's end of the tests' wire: runs the commands that come over a virtio-serial port.

One JSON object a line:
    host -> dom0   {"id": 7, "command": "xl list", "timeout": 60}
    dom0 -> host   {"ready": 9.1}            once, first: seconds since dom0's kernel began
                   {"id": 7, "pid": 431}     it runs; its process group is its pid
                   {"id": 7, "rc": 0}        it ended, or was killed at its timeout (124)
What it writes goes to /job/run/7.out and 7.err, which the host reads as they grow.  Commands run
side by side.  When the host hangs up, the agent ends and dom0 with it.
"""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import BinaryIO

OUTPUTS = Path("/job/run")


def main() -> None:
    """Obey until the host hangs up."""
    (name,) = Path("/sys/class/virtio-ports").iterdir()
    OUTPUTS.mkdir()
    with open(f"/dev/{name.name}", "r+b", buffering=0) as port:
        tell(port, ready=float(Path("/proc/uptime").read_text().split()[0]))
        for line in lines(port):
            threading.Thread(target=obey, args=(port, json.loads(line)), daemon=True).start()


def lines(port: BinaryIO):
    """The lines that come; reading a port of no host gives nothing."""
    rest = b""
    while piece := port.read(65536):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole


def tell(port: BinaryIO, **words: float) -> None:
    """One line, in one write: threads share the port."""
    port.write(json.dumps(words).encode() + b"\n")


def obey(port: BinaryIO, order: dict) -> None:
    """Run one command to its end or its timeout."""
    number = order["id"]
    with open(OUTPUTS / f"{number}.out", "wb") as out, open(OUTPUTS / f"{number}.err", "wb") as err:
        process = subprocess.Popen(
            ["bash", "-c", order["command"]],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    tell(port, id=number, pid=process.pid)
    try:
        status = process.wait(order["timeout"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        status = 124
    tell(port, id=number, rc=status)


main()
