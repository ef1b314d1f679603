"""Rules: patterns of paths, keys of leaves, and how models draw their leaves."""
