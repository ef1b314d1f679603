"""What an initialization does to the signal."""
