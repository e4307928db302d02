"""FLOOR 0: bytes to values and back; no policy, no domid."""
