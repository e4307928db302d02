"""What libxl and its save helper say to each other."""
