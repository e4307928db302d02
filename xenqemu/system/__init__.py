"""FLOOR 1a: what any program wants of the operating system; nothing of Xen."""
