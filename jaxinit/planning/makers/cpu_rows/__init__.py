"""The CPU's own maker: one program draws leaves of every shape and scale.

On the CPU most of a first call is compilation. Where element i of a leaf depends on
its key and on i alone, one program can draw a *row*, some elements of any leaf, from
the key and the index of the first. A *block* is the rows that the program draws at
once; `rows` copies them to their leaves.

Take `claim` out of `MAKERS` and all values stay as they are.
"""

from .rows import claim as claim
