"""Whole models, with rules: what `jaxinit.plan` and `jaxinit.init` are."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._compat import bypasses_plan
from ..planning.plan import Plan, Progress
from .leaf_keys import base_key
from .rules import Rules, as_rules
from .trace import trace, values


def eval_shape(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The shapes of the result of ``fn``, and how ``fn`` draws each leaf.

    As ``jax.eval_shape``: nothing is computed. The structs know with which shapes
    ``fn`` calls its initializers, so rules that are given them read each leaf as its
    layer does: the heads (768, 12, 64) of an attention layer as the matrix
    (768, 768) that they come from, the kernels of scanned layers one by one.

    Args:
        fn: Function of keys and arrays to a pytree, as a model's ``init``.
        *args: Its arguments. Arrays may be ``jax.ShapeDtypeStruct``.
        **kwargs: Keyword arguments of ``fn``.

    Returns:
        The result of ``fn`` with a ``jax.ShapeDtypeStruct`` for each array, for
        `init_tree`, `reinit`, `fill_missing` and ``Rules.explain``.

    Example:
        >>> def init(key):
        ...     return jaxinit.LecunNormal()(key, (768, 768)).reshape(768, 12, 64)
        >>> shapes = eval_shape(init, jax.random.key(0))
        >>> shapes.shape
        (768, 12, 64)
        >>> w = jaxinit.init_tree(jax.random.key(0), shapes, {"**": "lecun_normal"})
        >>> round(float(w.std()) * 768**0.5, 2)
        1.0
    """
    shapes, _ = trace(fn, args, kwargs)
    return shapes


def ruled(fn: Callable[..., Any], rules: Any) -> Callable[..., Any]:
    """``fn`` with the leaves that rules match made by their initializers.

    What ``fn`` computes for those alone is dead code to whoever traces it.
    """
    rules = as_rules(rules)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        shapes, source = trace(fn, args, kwargs)
        return redraw(base_key(args, kwargs), shapes, values(shapes, source), rules)

    return run


def redraw(key: jax.Array, shapes: Any, tree: Any, rules: Rules) -> Any:
    """A tree with the leaves that rules match drawn anew, one operation at a time.

    Args:
        key: Base key.
        shapes: The tree with a shape for each array, as `eval_shape` gives it.
        tree: The arrays.
        rules: The rules.

    Raises:
        ValueError: If the rules do not suit the tree.
    """
    assignment = rules.assign(shapes)
    assignment.check()
    leaves, structure = jax.tree.flatten(tree)
    for row in assignment.rows:
        if row.initializer is not None:
            leaves[row.index] = assignment.draw(row, key)
    return jax.tree.unflatten(structure, leaves)


def plan(
    fn: Callable[..., Any],
    *args: Any,
    rules: Rules | Any = None,
    out_shardings: Any = None,
    donate: int | Sequence[int] = (),
    progress: Progress | None = None,
    **kwargs: Any,
) -> Plan:
    """Plans to compile each distinct program of ``fn`` once.

    ``fn`` is traced; its graph is cut at its PRNG keys; what remains falls into
    components, most of them one parameter each; components that are the same
    program with another key form a group, which is compiled once and run for
    each member. Values are those of ``jax.jit(fn)(*args)``. Without ``out_shardings``
    they lie on the mesh of ``jax.set_mesh``, or else on JAX's default device, wherever
    the arguments are.

    On the CPU, leaves that differ in shape and scale alone share a program too. JAX
    copies them when they are first donated.

    Args:
        fn: Function of keys and arrays to a pytree, as a model's ``init``.
        *args: Its arguments. Arrays may be ``jax.ShapeDtypeStruct`` here; what is
            not an array (a bool, a string, a number) is fixed by its value.
        rules: `Rules`, or what they are built of: the parameters that they match
            are made by their initializers, from `leaf_key` of the first argument (a
            key, or a dict of keys with "params"); the others by ``fn``. A rule's
            initializer is called with the shapes with which ``fn`` calls its own.
        out_shardings: None; a sharding; a pytree prefix of shardings; or a
            function of (path, ShapeDtypeStruct) to a sharding.
        donate: Positions of arguments whose arrays a call may consume: they are
            deleted when it is done.
        progress: Called as progress(done, total, what) while compiling.
        **kwargs: Keyword arguments of ``fn``.

    Returns:
        A `Plan`: call it with arguments of the same shapes.

    Raises:
        TypeError, ValueError: If ``out_shardings`` or ``rules`` do not suit the
            result.

    Example:
        >>> def init(key):
        ...     return [jaxinit.HeNormal()(k, (8, 4)) for k in jax.random.split(key, 3)]
        >>> p = plan(init, jax.random.key(0))
        >>> len(p.groups), len(p(jax.random.key(1)))
        (1, 3)
    """
    fn = fn if rules is None else ruled(fn, rules)
    return Plan(
        fn, args, kwargs, out_shardings=out_shardings, donate=donate, progress=progress
    )


def init(
    fn: Callable[..., Any],
    *args: Any,
    rules: Rules | Any = None,
    out_shardings: Any = None,
    progress: Progress | None = None,
    **kwargs: Any,
) -> Any:
    """The result of ``fn(*args)``, planned and made in one call; see `plan`.

    Example:
        >>> init(lambda key: jaxinit.Ones()(key, (2,)), jax.random.key(0))
        Array([1., 1.], dtype=float32)
    """
    fn = fn if rules is None else ruled(fn, rules)
    if bypasses_plan(args, kwargs):
        return fn(*args, **kwargs)
    made = plan(fn, *args, out_shardings=out_shardings, progress=progress, **kwargs)
    return made(*args, **kwargs)
