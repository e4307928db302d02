"""QEMU as a device model, over QMP; and a QEMU program, asked what it knows."""
