"""Whether the processes of a job are about to make the same arrays."""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .._compat import is_key


def check_agreement(leaves: Sequence[Any], keys: Sequence[Any]) -> None:
    """Raises in every process if plan or keys differ between any two.

    Args:
        leaves: The plan's leaves.
        keys: Every key and seed that the plan derived, on the host.

    Raises:
        RuntimeError: If they differ; it says which of the two does.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    digests = [
        _digest(map(repr, leaves)),
        _digest(_words(k).tobytes() for k in keys),
    ]
    mine = np.frombuffer(b"".join(digests), np.uint32).reshape(2, -1)
    everyone = np.asarray(multihost_utils.process_allgather(mine))
    for what, words in zip(("plans", "keys"), everyone.swapaxes(0, 1), strict=True):
        others = np.flatnonzero((words != words[0]).any(axis=1))
        if others.size:
            raise RuntimeError(
                f"plan(...): the {what} of processes 0 and "
                f"{', '.join(map(str, others))} differ. Every process has to plan the "
                "same function and call it with the same arguments."
            )


def _words(key: Any) -> np.ndarray:
    if isinstance(key, jax.Array) and is_key(key):
        key = jax.random.key_data(key)
    return np.asarray(key)


def _digest(parts: Any) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"\0")
    return digest.digest()
