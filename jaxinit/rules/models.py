"""Whole models with rules: `jaxinit.plan`, `jaxinit.init`, `jaxinit.eval_shape`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._checks import check_function
from .._compat import bypasses_plan, is_traced, read_config
from .._processes import agree, environment, errors_told
from ..planning.plan import Plan, Progress
from .leaf_keys import base_key
from .rules import Rules, as_rules
from .trace import trace, values


def eval_shape(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Returns the shapes of the result of ``fn``, with the draw of each leaf.

    Like ``jax.eval_shape`` it computes nothing. The returned structs also store the
    shapes with which ``fn`` calls its initializers. So rules that get these structs
    draw as the layers do: the heads (768, 12, 64) of an attention layer as one matrix
    (768, 768), and the kernels of scanned layers one by one.

    Args:
        fn: Function from keys and arrays to a pytree, such as a model's ``init``.
        *args: Arguments of ``fn``. Arrays may be ``jax.ShapeDtypeStruct``.
        **kwargs: Keyword arguments of ``fn``.

    Returns:
        The result of ``fn`` with a ``jax.ShapeDtypeStruct`` in place of each array.
        Pass it to `init_tree`, `reinit`, `fill_missing` or ``Rules.explain``.

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
    _check_fn("eval_shape", fn)
    # The result would keep a tracer beyond its trace: a struct goes in its place.
    args, kwargs = jax.tree.map(_untraced, (args, kwargs))
    shapes, _ = trace(fn, args, kwargs)
    return shapes


def ruled(fn: Callable[..., Any], rules: Any) -> Callable[..., Any]:
    """Returns ``fn`` with the leaves that rules match drawn by the rules.

    If the result is traced, the draws of ``fn`` for these leaves are dead code.
    """
    with errors_told("plan(...)"):
        rules = as_rules(rules)

    @functools.wraps(fn)
    def run(*args: Any, **kwargs: Any) -> Any:
        shapes, source = trace(fn, args, kwargs)
        return redraw(base_key(args, kwargs), shapes, values(shapes, source), rules)

    return run


def redraw(key: jax.Array, shapes: Any, tree: Any, rules: Rules) -> Any:
    """Returns a tree with the leaves that rules match drawn anew.

    Args:
        key: Base key.
        shapes: The tree with a struct of `eval_shape` in place of each array.
        tree: The tree of arrays.
        rules: The rules.

    Raises:
        ValueError: If the rules do not fit the tree.
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
    """Returns a `Plan` of ``fn``, which compiles each distinct program of ``fn`` once.

    ``fn`` is traced, and its graph is cut at its PRNG keys. The rest falls into
    components, most of which make one parameter. Components that differ only in their
    keys form a group. Each group is compiled once and run for each of its members. The
    values are those of ``jax.jit(fn)(*args)``.

    Without ``out_shardings`` the results are on the mesh of ``jax.set_mesh``, or else
    on JAX's default device, wherever the arguments are. On the CPU, leaves that differ
    only in shape and scale share a program, too. JAX copies such leaves when they are
    first donated.

    Args:
        fn: Function from keys and arrays to a pytree, such as a model's ``init``.
        *args: Arguments of ``fn``. Arrays may be ``jax.ShapeDtypeStruct`` here. The
            value of any other argument (a bool, a string, a number) is fixed.
        rules: `Rules`, or the argument to build them. Parameters that a rule matches
            are drawn by its initializer, with their `leaf_key`; the base key is the
            first argument (a key, or a dict of keys with "params"). ``fn`` draws the
            others. The initializer of a rule is called with the shapes with which
            ``fn`` calls its own initializer.
        out_shardings: None; a sharding; a pytree prefix of shardings; or a function
            from (path, ShapeDtypeStruct) to a sharding.
        donate: Positions of arguments whose arrays a call may reuse. The call deletes
            these arrays.
        progress: Function that is called as progress(done, total, what) while
            compiling.
        **kwargs: Keyword arguments of ``fn``.

    Returns:
        A `Plan`, to be called with arguments of the same shapes. Those on which no leaf
        depends, as the inputs of most models, may be ``jax.ShapeDtypeStruct`` again.
        Python numbers in its result are arrays, as of jit, but for those in modules of
        Equinox. What jit refuses stays as it is.

    Raises:
        TypeError, ValueError: If ``out_shardings`` or ``rules`` do not fit the result.

    Example:
        >>> def init(key):
        ...     return [jaxinit.HeNormal()(k, (8, 4)) for k in jax.random.split(key, 3)]
        >>> p = plan(init, jax.random.key(0))
        >>> len(p.groups), len(p(jax.random.key(1)))
        (1, 3)
    """
    with errors_told("plan(...)"):
        _check_fn("plan", fn)
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
    """Returns ``fn(*args)``, planned and run in one call; see `plan`.

    Args:
        fn: Function of arrays that returns a pytree, such as ``model.init``.
        *args: Arguments of ``fn``, with values.
        rules: `Rules` for the arrays, as for `plan`.
        out_shardings: Shardings of the result, as for `plan`.
        progress: Function that is called as progress(done, total, what) while
            compiling.
        **kwargs: Keyword arguments of ``fn``.

    Returns:
        The result of the plan: a pytree as ``fn`` returns it.

    Raises:
        TypeError, ValueError: If ``out_shardings`` or ``rules`` do not fit the result.

    Example:
        >>> init(lambda key: jaxinit.Ones()(key, (2,)), jax.random.key(0))
        Array([1., 1.], dtype=float32)
    """
    with errors_told("plan(...)"):
        _check_fn("init", fn)
    fn = fn if rules is None else ruled(fn, rules)
    if bypasses_plan(args, kwargs):
        if read_config("jax_disable_jit"):  # perhaps in this process alone
            agree("plan(...)", environment)
        return fn(*args, **kwargs)
    made = plan(fn, *args, out_shardings=out_shardings, progress=progress, **kwargs)
    return made(*args, **kwargs)


def _check_fn(where: str, fn: Any) -> None:
    rule = "a function that returns a pytree"
    check_function(where, "fn", fn, rule, "Pass model.init, or a function of your own.")


def _untraced(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if is_traced(x) else x
