"""What is left to xl and libxl, and the locks and sockets shared with them."""
