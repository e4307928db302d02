"""FLOOR 1a: what any program needs of the operating system; nothing of Xen."""
