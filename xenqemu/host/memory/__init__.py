"""Guest memory on any host: pages, and live saves."""
