"""Initializers by path: patterns, keys of paths, trees."""
