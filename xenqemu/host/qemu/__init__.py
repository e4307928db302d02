"""QEMU as a device model, over QMP; and what a QEMU program supports."""
