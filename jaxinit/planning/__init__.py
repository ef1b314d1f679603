"""Whole models: one compilation for each distinct parameter program."""
