"""What ``python -m jaxinit`` does once its arguments are parsed.

Nothing here is imported by ``import jaxinit``; Flax, rich and matplotlib load
when a command needs them.
"""
