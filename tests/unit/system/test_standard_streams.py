"""Descriptors 0 to 2 are there before any file is opened."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from xenqemu.system.standard_streams import open_standard_streams
report = os.fdopen(os.dup2(int(sys.argv[1]), 9), "w")
os.close(int(sys.argv[1]))
for number in map(int, sys.argv[2:]):
    os.close(number)
open_standard_streams()
print(os.open("/etc/passwd", os.O_RDONLY), file=report)
for number in range(3):
    print(os.readlink(f"/proc/self/fd/{number}"), os.get_inheritable(number), file=report)
"""


def opened(*closed: int) -> list[str]:
    reading, writing = os.pipe()
    with open(reading) as report:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(writing), *map(str, closed)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=[writing],
            check=True,
            timeout=60,
        )
        os.close(writing)
        return report.read().splitlines()


@pytest.mark.parametrize("closed", [(), (0,), (1,), (2,), (1, 2), (0, 1, 2)])
def test_no_file_gets_a_number_of_theirs(closed):
    file, *standard = opened(*closed)
    assert int(file) >= 3
    nowhere = {f"{os.devnull} True"}
    assert {standard[number] for number in closed} <= nowhere
    assert all(
        number in closed or line not in nowhere for number, line in enumerate(standard[1:], 1)
    )


def test_a_program_started_without_them_has_streams():
    program = (
        "from xenqemu.system.standard_streams import open_standard_streams as o; o(); import sys;"
        "print('a'); sys.stdout.flush(); print('b', file=sys.stderr, flush=True); sys.stdin.read()"
    )
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, program], check=False, timeout=60
    )
    assert done.returncode == 1  # to read from nothing fails
