"""The host's end of a guest's network cards."""
