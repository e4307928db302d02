"""The save file: xl's header, the libxl stream, the libxc image within it, and their bytes."""
