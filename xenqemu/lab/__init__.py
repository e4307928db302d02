"""FLOOR 3: the embedded host: a small xenstored and guests under plain QEMU."""
