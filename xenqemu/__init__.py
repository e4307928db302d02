"""Suspend, restore and migrate Xen domains together with their device models."""
