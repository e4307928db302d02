"""xenstore, as a client of it."""
