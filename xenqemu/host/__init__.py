"""FLOOR 1: the parties on one host."""
