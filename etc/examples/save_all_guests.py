#!/usr/bin/env python3
"""Save each running guest of a host while it runs, and leave it running: a backup, by functions.

save_all_guests.py HOST FOLDER      HOST as for `xenqemu --host`: xen, lab:DIR, auto
"""

import sys
from pathlib import Path

import xenqemu

OPTIONS = xenqemu.SaveOptions(
    after=xenqemu.After.CONTINUE,
    precopy=xenqemu.PrecopyOptions(max_downtime=0.3),
    compact=True,
    timeout=3600,
)


def show(event: xenqemu.Event) -> None:
    """Tell of each iteration."""
    if event.iteration:
        print(f"  {event.iteration.size} bytes, {event.iteration.changed} pages changed")


def save_all(host: xenqemu.Host, folder: Path) -> int:
    """Save the guests of `host`; return how many could not be saved."""
    failed = 0
    for guest in filter(lambda each: each.running, xenqemu.domains(host=host)):
        file = folder / f"{guest.uuid}.save"
        try:
            found = xenqemu.save(guest.domid, file, OPTIONS, host=host, observe=show)
            print(f"{guest.name}: {found.size} bytes in {file}")
        except xenqemu.errors.XenqemuError as error:  # it says where the guest is
            print(f"{guest.name}: {error}", file=sys.stderr)
            failed += 1
    return failed


if __name__ == "__main__":
    with xenqemu.open_host(sys.argv[1]) as chosen:
        sys.exit(1 if save_all(chosen, Path(sys.argv[2])) else 0)
