"""FLOOR 1c: what an administrator chose: xenqemu.conf, xendomains, hooks, guests' own keys."""
