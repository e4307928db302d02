"""FLOOR 0: bytes to values and back; nothing here decides, nothing knows a domid."""
