"""FLOOR 2: what is done to a domain: the order of acts, undo, commit."""
