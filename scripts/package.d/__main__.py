"""xenqemu where it lies by itself: in xenqemu.pyz, and in /usr/lib/xenqemu.

It is the program that it is called as: a link of the name of a script of Xen's is that script.
"""

import os
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
    import runpy  # noqa: PLC0415  of this Python

    module = PROGRAMS.get(os.path.basename(sys.argv[0]), "xenqemu")  # noqa: PTH119  loads less
    if sys.argv[1:2] == ["-m"]:  # one of our own, started by us (system/own_program.py)
        del sys.argv[1]
        module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
