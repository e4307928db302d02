"""The hotplug scripts that libxl runs to connect the disks and network cards of guests."""
