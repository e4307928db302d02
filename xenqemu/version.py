"""The version of xenqemu, for its metadata and for `--version`."""

VERSION = "0.1.0"
