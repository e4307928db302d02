"""The program that we are called as, where all of it lies by itself: /usr/lib/xenqemu, xenqemu.pyz.

A link of the name of a script of Xen's is that script.
"""

import os
import runpy
import sys

PROGRAMS = {
    "libxl-save-helper": "xenqemu.save_helper",
    "xenqemu-block": "xenqemu.hotplug.block",
    "xenqemu-vif": "xenqemu.hotplug.vif",
}
"""By the names that libxl starts them by."""


def main() -> None:
    """Run what is wanted of us."""
    if sys.version_info < (3, 11):  # noqa: UP036  what runs us may be any Python
        sys.exit("xenqemu: Python 3.11 or later is needed, and this is " + sys.version.split()[0])
    module = PROGRAMS.get(os.path.basename(sys.argv[0]), "xenqemu")  # noqa: PTH119  loads less
    if sys.argv[1:2] == ["-m"]:  # one of our own, started by us (system/own_program.py)
        del sys.argv[1]
        module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
    main()
