"""The other host of a migration: the way there, and what is said."""
