"""Xen as the hypervisor, through its own libraries."""
