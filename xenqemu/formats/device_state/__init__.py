"""QEMU's stream: the state of its devices, as xen-save-devices-state writes it."""
