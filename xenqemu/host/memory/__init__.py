"""Guest memory, whichever the host: pages, and what is written of a guest that runs."""
