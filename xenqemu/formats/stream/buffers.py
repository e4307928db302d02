"""What bytes to be written are held in."""

Buffer = bytes | bytearray | memoryview
