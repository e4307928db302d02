"""A way to a receiver that breaks where it is told to: `relay.py OUT BACK ACT COMMAND`.

It runs COMMAND and passes on what the sender says and what comes back, up to OUT and BACK bytes
(-1: all).  With the first byte beyond, or at once for 0, it does ACT:

    cut               it ends, and the way with it
    kill-receiver     COMMAND is killed
    kill-sender       the process whose id is in the file $SENDER is killed, and the way ends
"""

import os
import selectors
import signal
import subprocess
import sys


def end(act: str, command: subprocess.Popen[bytes]) -> None:
    if act == "kill-receiver":
        os.killpg(command.pid, signal.SIGKILL)
        command.wait()
    if act == "kill-sender":
        with open(os.environ["SENDER"]) as file:
            os.kill(int(file.read()), signal.SIGKILL)
    os._exit(0)


def main() -> None:
    out, back, act, rune = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    pipe = subprocess.PIPE
    command = subprocess.Popen(
        ["sh", "-c", rune], bufsize=0, stdin=pipe, stdout=pipe, start_new_session=True
    )
    assert command.stdin is not None
    assert command.stdout is not None
    ways = {0: [command.stdin.fileno(), out], command.stdout.fileno(): [1, back]}
    selector = selectors.DefaultSelector()
    for source in ways:
        selector.register(source, selectors.EVENT_READ)
    while selector.get_map():
        for key, _events in selector.select():
            way = ways[key.fd]
            piece = os.read(key.fd, 1 << 16)
            if not piece:
                selector.unregister(key.fd)
                os.close(way[0])
                continue
            within = piece if way[1] < 0 else piece[: way[1]]
            while within:
                within = within[os.write(way[0], within) :]
            if 0 <= way[1] < len(piece):
                end(act, command)
            way[1] -= len(piece) if way[1] >= 0 else 0
    sys.exit(command.wait())


if __name__ == "__main__":
    main()
