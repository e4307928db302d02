"""A small xenstored: what a host without Xen needs for pyxs and the xenstore-* tools to work."""
