"""The line on a terminal that tells what a command is doing."""

import sys


def show(text: str) -> None:
    """Shows a text in place of the last one; an empty one removes it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def compiled(done: int, total: int, what: str) -> None:
    """Shows how many programs are compiled, until all are."""
    show("" if done == total else f"compiled {done} of {total}: {what}")
