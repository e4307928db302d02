"""A command of xenqemu that does something of the test's at one moment of it.

It runs in a process of its own, as `python -c PROGRAM MOMENT ACT WORD…`: what the observer of an
operation is told names the moment ("save progress"), ACT is Python, the WORDs are the command's.
"""

PROGRAM = """
import os, signal, subprocess, sys, time
from xenqemu.cli.main import main
from xenqemu.cli import progress
moment, act, *words = sys.argv[1:]
def observer(_chosen):
    def observe(event):
        global act
        if act and f"{event.phase.value} {event.kind.value}" == moment:
            now, act = act, ""
            exec(now, globals())
    return observe
progress.observer = observer
sys.exit(main(words))
"""

DIE = "os.kill(os.getpid(), signal.SIGKILL)"
"""What `kill -9` does."""
