"""The key of a leaf, a function of the base key and the leaf's path alone.

Version 1. A path is a sequence of names. A name is written as its length in bytes (8
bytes, little-endian) and its UTF-8. So ("a", "bc") and ("ab", "c") differ. Take the
SHA-256 of "jaxinit path 1", a zero byte and all names. Its first 8 bytes are two
little-endian uint32 words. The first word is folded into the base key, then the second.
The key does not depend on the order or number of leaves, on the process, on the
platform or on the version of Python.

If a leaf needs one call of its initializer, the call gets this key. If it needs several
calls, as the stacked layers of a scan do, call i gets this key with i folded in.
"""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_key, error
from .._compat import may_transfer

VERSION = 1
_PREFIX = f"jaxinit path {VERSION}".encode() + b"\0"


def path_words(parts: Sequence[str]) -> tuple[int, int]:
    """Returns the two words that are folded into the key for a path.

    Example:
        >>> path_words(("head", "kernel"))
        (3931689213, 2115587961)
    """
    digest = hashlib.sha256(_PREFIX)
    for part in parts:
        name = part.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<Q", len(name)) + name)
    first, second = struct.unpack("<II", digest.digest()[:8])
    return first, second


def leaf_key(key: jax.Array, path: str | Sequence[str]) -> jax.Array:
    """Returns the key that the initializer of a rule gets for the leaf at ``path``.

    Args:
        key: Base key, typed or raw, of any implementation.
        path: Path of the leaf: names joined with "/", or a sequence of names. If a name
            contains a "/", as the names of Haiku's modules do, pass a sequence.

    Returns:
        A key of the same kind.

    Example:
        >>> key = leaf_key(jax.random.key(0), "head/kernel")
        >>> w = jaxinit.HeNormal()(key, (8, 4))
        >>> tree = {"head": {"kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}
        >>> made = jaxinit.init_tree(jax.random.key(0), tree, {"**": "he_normal"})
        >>> bool((made["head"]["kernel"] == w).all())
        True
    """
    key = check_key("leaf_key", key)
    is_list = isinstance(path, Sequence) and not isinstance(path, (str, bytes))
    parts = path if is_list else [path]
    if not all(isinstance(part, str) for part in parts):
        rule = "a str, or a sequence of them"
        raise error(TypeError, "leaf_key", "path", rule, path)
    parts = path.split("/") if isinstance(path, str) else path
    with may_transfer():
        return fold_words(key, map(np.uint32, path_words(parts)))


def fold_words(key: jax.Array, words: Iterable[Any]) -> jax.Array:
    """Folds each word into the key, in order."""
    for word in words:
        key = jax.random.fold_in(key, word)
    return key


def base_key(args: Sequence[Any], kwargs: Mapping[str, Any]) -> jax.Array:
    """Returns the base key among the arguments of a function.

    It is the first argument, if that is a key. It is the entry "params" (or "default")
    of the first argument, if that is a dict of keys, as for Flax. Else it is the only
    typed key among all arguments.

    Raises:
        TypeError: If there is no such key.
    """
    first = base_key_of(args[0] if args else None)
    if is_key_like(first):
        return first
    typed = [x for x in jax.tree.leaves((args, kwargs)) if _is_key(x)]
    if len(typed) != 1:
        raise TypeError(
            "rules need one base key: make the first argument of the function a PRNG "
            "key, or a dict with a key 'params'. It is neither, and there are "
            f"{len(typed)} keys among all arguments."
        )
    return typed[0]


def base_key_of(x: Any) -> Any:
    """Returns the entry "params" (or "default") of a dict; anything else unchanged."""
    return x.get("params", x.get("default")) if isinstance(x, Mapping) else x


def is_key_like(x: Any) -> bool:
    """True for a typed key, or an array that may be a raw key."""
    return _is_key(x) or _is_raw(x)


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _is_raw(x: Any) -> bool:
    if not isinstance(x, (jax.Array, np.ndarray)) or x.dtype != np.uint32:
        return False
    return x.ndim == 1
