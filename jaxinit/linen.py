"""Flax Linen: plans of modules with their own shardings, and probes."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from flax.linen import spmd
from jax.sharding import Mesh, NamedSharding

from ._checks import error
from ._processes import errors_told
from .insight import probe as insight
from .insight.report import Report
from .planning.plan import Plan, Progress
from .planning.result import FromTree
from .rules.models import ruled
from .rules.rules import Rules


def plan(
    model: nn.Module,
    rngs: Any,
    *args: Any,
    mesh: Mesh | None = None,
    rules: Rules | Any = None,
    axis_rules: Any = None,
    method: Callable[..., Any] | str | None = None,
    progress: Progress | None = None,
    **kwargs: Any,
) -> Plan:
    """Plans ``model.init``; see `jaxinit.plan`.

    Args:
        model: The module.
        rngs: Key, or dict of keys by name, as for ``model.init``.
        *args: Inputs of the module, arrays or ``jax.ShapeDtypeStruct``.
        mesh: Mesh for the variables. They are sharded by the axis names that
            ``nn.with_partitioning`` or ``nn.with_logical_partitioning`` gave them;
            variables without names are replicated. None: variables are not sharded.
        rules: As for `jaxinit.plan`.
        axis_rules: Pairs (logical axis, mesh axis). None: the rules of
            ``nn.logical_axis_rules``; without such rules the names are mesh axes.
        method: As for ``model.init``.
        progress: As for `jaxinit.plan`.
        **kwargs: Keyword inputs of the module.

    Returns:
        A plan to call as ``plan(rngs, *args, **kwargs)``.

    Example:
        >>> planned = plan(nn.Dense(4), jax.random.key(0), jax.numpy.ones((1, 3)))
        >>> [leaf.path for leaf in planned.leaves]
        ['params/bias', 'params/kernel']
    """
    with errors_told("plan(...)"):
        _check_model("linen.plan", model)

    def init(rngs: Any, *args: Any, **kwargs: Any) -> Any:
        return model.init(rngs, *args, method=method, **kwargs)

    def shardings(variables: Any) -> Any:
        if mesh is None:
            return None
        specs = nn.get_partition_spec(variables)
        if axis_rules is None and not nn.get_logical_axis_rules():
            return jax.tree.map(functools.partial(NamedSharding, mesh), specs)
        return spmd.logical_to_mesh_sharding(specs, mesh, axis_rules)

    options: Any = {"out_shardings": FromTree(shardings), "progress": progress}
    made_by = init if rules is None else ruled(init, rules)
    return Plan(made_by, (rngs, *args), kwargs, **options)


def init(model: nn.Module, rngs: Any, *args: Any, **options: Any) -> Any:
    """Returns the variables of a module, planned and drawn in one call.

    Args:
        model: The module.
        rngs: Key, or dict of keys by name, as for ``model.init``.
        *args: Inputs of the module.
        **options: ``mesh``, ``rules``, ``axis_rules``, ``method`` and ``progress``, as
            for `plan`, and keyword inputs of the module.

    Returns:
        The variables, as ``model.init`` returns them.

    Example:
        >>> variables = init(nn.Dense(4), jax.random.key(0), jax.numpy.ones((1, 3)))
        >>> variables["params"]["kernel"].shape
        (3, 4)
    """
    named = {"mesh", "rules", "axis_rules", "method", "progress"}
    kwargs = {name: x for name, x in options.items() if name not in named}
    return plan(model, rngs, *args, **options)(rngs, *args, **kwargs)


def probe(
    model: nn.Module,
    variables: Any,
    *inputs: Any,
    key: jax.Array,
    loss: Callable[[Any], jax.Array] | None = None,
    method: Callable[..., Any] | str | None = None,
    **kwargs: Any,
) -> Report:
    """Measures the signal of a module; see `jaxinit.probe`.

    Args:
        model: The module.
        variables: The variables of the module, as ``model.init`` returns them.
        *inputs: A batch.
        key: As for `jaxinit.probe`.
        loss: As for `jaxinit.probe`. It takes the result without the mutable
            collections.
        method: As for ``model.apply``.
        **kwargs: As for ``model.apply``: ``rngs``, ``mutable``, and keyword inputs.

    Returns:
        The report.

    Example:
        >>> model, x = nn.Dense(4), jax.numpy.ones((2, 3))
        >>> key = jax.random.key(0)
        >>> report = probe(model, model.init(key, x), x, key=key)
        >>> report.rows[0].path
        'params/kernel'
    """
    _check_model("linen.probe", model)
    has_state = kwargs.get("mutable", False) is not False

    def apply(variables: Any, *inputs: Any) -> Any:
        found: Any = model.apply(variables, *inputs, method=method, **kwargs)
        return found[0] if has_state else found

    return insight.probe(apply, variables, *inputs, key=key, loss=loss)


def _check_model(where: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        rule, cure = "a module of Flax Linen", "Pass an instance, as nn.Dense(4)."
        raise error(TypeError, where, "model", rule, model, cure)
