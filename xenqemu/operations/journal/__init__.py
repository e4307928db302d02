"""The write-ahead undo log of one operation."""
