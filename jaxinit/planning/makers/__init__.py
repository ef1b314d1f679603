"""Makers, one file or folder each; the first of `MAKERS` that claims a group has it."""

from . import constant, cpu_rows, per_leaf
from .base import Claim

MAKERS: tuple[Claim, ...] = (constant.claim, cpu_rows.claim, per_leaf.claim)
