"""The memory of Xen's guests, written by us or by libxc."""
