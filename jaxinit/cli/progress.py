"""A line on the terminal that shows the progress of a command."""

import sys


def show(text: str) -> None:
    """Replaces the line by a text; an empty text removes the line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def compiled(done: int, total: int, what: str) -> None:
    """Shows the number of compiled programs, until all are compiled."""
    show("" if done == total else f"compiled {done} of {total}: {what}")
