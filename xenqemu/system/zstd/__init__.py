"""Files that are compressed by zstd, written and read: by python3-zstandard, or the program."""
