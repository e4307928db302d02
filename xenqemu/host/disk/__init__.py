"""The disks of guests: what their bytes lie on, and whose they are."""
