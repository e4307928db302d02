"""The other host of a migration: the command that leads to it, and the messages."""
