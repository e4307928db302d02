"""What two hosts say to each other while a domain migrates."""
