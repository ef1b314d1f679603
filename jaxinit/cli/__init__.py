"""The commands of ``python -m jaxinit``, which ``import jaxinit`` does not load."""
