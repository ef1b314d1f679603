"""Plan: trace, analyze, compile, call."""

import concurrent.futures
import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_progress, printable
from .._compat import (
    bypasses_plan,
    default_place,
    is_guarded,
    is_key,
    is_literal,
    make_jaxpr,
    may_transfer,
    own_arrays,
)
from .._processes import errors_told
from . import host_keys
from .agreement import agree_on_call, agree_on_plan
from .analysis import analyze, coarse_draw
from .arguments import Arguments
from .ir import Value, literal, values
from .makers.base import Member
from .partition import Component
from .result import Result, placed, split
from .table import render

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array of the result.

    Attributes:
        path: Its path in the result, "/"-joined.
        shape: Its shape.
        dtype: Its dtype.
        bytes: Its size over all devices, each shard counted once.
        group: Number of the group that makes it; None where it is a key, an
            argument or a scalar that comes back as it is.
        sharding: The sharding asked for, or None.
        coarse: Where its random draw has 8 or 16 bits, which leave few distinct
            values and a bias: how many, and which initializers would be right.
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    bytes: int
    group: int | None
    sharding: jax.sharding.Sharding | None
    coarse: tuple[int, str] | None


class Plan:
    """The compiled initialization of a function; built by `jaxinit.plan`.

    Attributes:
        leaves: The arrays of the result, in order.
        groups: The distinct programs, each with the leaves it makes.
        reason: Why the function is compiled as one program, or None.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        out_shardings: Any = None,
        donate: int | Sequence[int] = (),
        progress: Progress | None = None,
    ):
        """Traces and analyzes ``fn``; nothing is allocated or compiled."""
        self._fn = fn
        self._progress = progress or (lambda done, total, what: None)
        self._compiled: dict[Any, dict[int, Any]] = {}  # by place and group
        with errors_told("plan(...)"):
            check_progress("plan", progress)
            self._donate = _check_donate(donate, len(args))
            self._arguments = Arguments.of(args, kwargs)
            closed, self._result = _trace(fn, self._arguments)
            avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals]
            self._shardings = self._result.shardings(out_shardings, avals)
            with may_transfer():
                self._analysis = analyze(closed, self._shardings, default_place())
            self.groups = self._analysis.groups
            self.reason = self._analysis.reason
            self.leaves = self._leaves(avals)
            self._read = agree_on_plan(closed, self.leaves)

    def _leaves(self, avals: Sequence[jax.ShapeDtypeStruct]) -> list[Leaf]:
        group_of = {i: g for g, group in enumerate(self.groups) for i in group.leaves}
        coarse = [coarse_draw(group.members[0]) for group in self.groups]
        return [
            Leaf(
                path=path,
                shape=aval.shape,
                dtype=aval.dtype,
                bytes=math.prod(aval.shape) * aval.dtype.itemsize,
                group=group_of.get(i),
                sharding=sharding,
                coarse=coarse[group_of[i]] if i in group_of else None,
            )
            for i, (path, aval, sharding) in enumerate(
                zip(self._result.paths, avals, self._shardings, strict=True)
            )
        ]

    def compile(self) -> "Plan":
        """Compiles every group ahead of time, several at once.

        An interrupt, or an exception of ``progress``, comes back at once: programs that
        are ready stay, and those that XLA has not begun are not compiled.

        Returns:
            The plan itself.
        """
        with contextlib.closing(self._compiling()) as ready:
            for _ in ready:
                pass
        return self

    def _compiling(self) -> Generator[int, None, None]:
        """Yields the number of each group as soon as it is ready to start."""
        compiled = self._here()
        new = [g for g in range(len(self.groups)) if g not in compiled]
        # Lowered here: settings under a context manager are this thread's own.
        lowered = {g: self.groups[g].maker.lower() for g in new}
        compiled |= {g: None for g, build in lowered.items() if build is None}
        todo = {g: build for g, build in lowered.items() if build is not None}
        ready = [*compiled]

        def build(g: int) -> int:
            compiled[g] = todo[g]()
            return g

        pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
        try:
            order = sorted(todo, key=self._cost, reverse=True)
            futures = [pool.submit(build, g) for g in order]
            yield from ready
            done = concurrent.futures.as_completed(futures)
            for count, future in enumerate(done, 1):
                g = future.result()
                self._progress(count, len(todo), "compiled")
                yield g
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _here(self) -> dict[int, Any]:
        """The programs so far of results that lie where they would now."""
        return self._compiled.setdefault(default_place(), {})

    def _cost(self, g: int) -> tuple[int, int]:
        """Returns a rough order of the times to compile and to run a group."""
        group = self.groups[g]
        operations = len(group.members[0].nodes)
        return operations.bit_length(), sum(self.leaves[i].bytes for i in group.leaves)

    def texts(self) -> list[str]:
        """The compiled text of every program so far, for inspection."""
        programs = list(self._here().values())
        return [program.as_text() for program in programs if program is not None]

    def memory(self) -> dict[str, int]:
        """Bytes on the device that holds most, from shapes and shardings.

        Returns:
            ``result``: bytes of the leaves; ``temporary``: the most that one group
            needs beside them while it is made (0 before `compile`); ``peak``: their
            sum.
        """
        held: dict[Any, int] = {}
        for leaf in self.leaves:
            for device, count in _bytes_by_device(leaf).items():
                held[device] = held.get(device, 0) + count
        programs = list(self._here().items())
        needs = [self.groups[g].maker.temporary_bytes(x) for g, x in programs]
        result, temporary = max(held.values(), default=0), max(needs, default=0)
        return {"result": result, "temporary": temporary, "peak": result + temporary}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function for these arguments.

        Compiles what is not compiled yet. Inside jit, vmap, grad or eval_shape,
        or where jit is disabled, the function itself is evaluated. Arguments on which
        no leaf depends may be ``jax.ShapeDtypeStruct``.

        Raises:
            TypeError: If the arguments differ from the planned ones in
                structure, shape, dtype or key implementation; or if a leaf depends on
                one without values.
            RuntimeError: If settings changed, or if processes disagree or one fails.
        """
        if bypasses_plan(args, kwargs):
            return self._fn(*args, **kwargs)
        with errors_told("plan(...)(...)"):
            arrays = self._arguments.flatten(args, kwargs)
            self._check_given(arrays)
            with may_transfer():
                with_keys = self._with_keys(arrays)
                agree_on_call(self._arguments.array_names, arrays, self._read)
        with may_transfer():
            env = self._made(with_keys)
            outputs = self._outputs(env)
        results = [env[v] for v in values(self._analysis.program.outputs)]
        for i in self._donate:
            for x in jax.tree.leaves(args[i]):
                if isinstance(x, jax.Array) and not any(x is out for out in results):
                    x.delete()
        return self._result.join(outputs)

    def _check_given(self, arrays: Sequence[Any]) -> None:
        """Raises if an argument that a leaf needs has no values, or may not be sent."""
        analysis, names = self._analysis, self._arguments.array_names
        guarded = is_guarded()
        for name, v, x in zip(names, analysis.program.inputs, arrays, strict=True):
            on_host = guarded and isinstance(x, np.ndarray | np.generic)
            if not (on_host or _is_abstract(x)):
                continue
            leaves = analysis.leaves_of(v)
            if leaves and on_host:
                jnp.asarray(x)  # raises the error of the guard, as in jit
            elif leaves:
                path = self.leaves[leaves[0]].path or "the result"
                raise TypeError(
                    f"plan(...): argument {printable(name)} is a ShapeDtypeStruct, "
                    f"which has no values, and the leaf {printable(path)} depends on "
                    "it. Pass an array."
                )

    def _with_keys(self, arrays: Sequence[Any]) -> dict[Value, Any]:
        """The arguments, the constants and the values of the key program."""
        program, keys = self._analysis.program, self._analysis.keys
        pairs = zip(program.inputs, arrays, strict=True)
        given = {v: x for v, x in pairs if not _is_abstract(x)}
        for v, constant in program.constants.items():
            if is_key(program.avals[v]):
                given[v] = constant
        held = {v: host_keys.to_host(x, program.avals[v]) for v, x in given.items()}
        return host_keys.evaluate_keys(keys, {**program.constants, **held})

    def _made(self, env: Mapping[Value, Any]) -> dict[Value, Any]:
        """The values so far and those of the groups, each begun once it is compiled."""
        found = dict(env)
        waiting: list[tuple[int, Component]] = []
        begun: list[tuple[list[Component], Callable[[], list[list[jax.Array]]]]] = []
        with contextlib.closing(self._compiling()) as compiling:
            for g in compiling:
                waiting += [(g, component) for component in self.groups[g].members]
                started, waiting = self._start(waiting, found)
                begun += started
        while begun:
            for components, finish in begun:
                for component, made in zip(components, finish(), strict=True):
                    found.update(zip(component.outputs, made, strict=True))
            begun, waiting = self._start(waiting, found)
        return found

    def _start(
        self, waiting: Sequence[tuple[int, Component]], env: Mapping[Value, Any]
    ) -> tuple[list[Any], list[tuple[int, Component]]]:
        """Begins the members whose inputs are there.

        Returns:
            For each group that begins: its members, and what waits for their results;
            and the members that have to wait.
        """
        ready: dict[int, list[Component]] = {}
        later: list[tuple[int, Component]] = []
        for g, component in waiting:
            if all(v in env for v in component.inputs):
                ready.setdefault(g, []).append(component)
            else:
                later.append((g, component))
        begun: list[Any] = []
        for g, components in ready.items():
            members = [Member(c, [env[v] for v in c.inputs]) for c in components]
            finish = self.groups[g].maker.start(self._here()[g], members)
            begun.append((components, finish))
        return begun, later

    def _outputs(self, env: Mapping[Value, Any]) -> list[Any]:
        """The arrays of the result, each on its sharding."""
        program = self._analysis.program
        outputs: list[Any] = []
        constant: list[int] = []
        for i, atom in enumerate(program.outputs):
            if is_literal(atom):
                value = literal(atom)
                outputs.append(value.item() if atom.aval.weak_type else value)
                constant.append(i)
                continue
            value = env[atom]
            if atom in program.constants:
                constant.append(i)
            if self.leaves[i].group is None:
                value = host_keys.to_device(value, program.avals[atom])
            outputs.append(value)
        # Each call's own: the plan needs its constants when a caller donates them.
        owned = jax.device_put([outputs[i] for i in constant], may_alias=False)
        for i, value in zip(constant, owned, strict=True):
            outputs[i] = value
        avals = [a.aval if is_literal(a) else program.avals[a] for a in program.outputs]
        return list(map(placed, outputs, self._shardings, avals))

    def __str__(self) -> str:
        """A table of groups with what they make, and the memory expected."""
        return render(self)


def _trace(fn: Callable[..., Any], arguments: Arguments) -> tuple[Any, Result]:
    """The closed jaxpr of a function, and the structure of its result."""
    results: list[Result] = []

    def arrays(*given: Any) -> list[Any]:
        args, kwargs = arguments.unflatten(given)
        result, made = split(fn(*args, **kwargs))
        results.append(result)
        return made

    closed = make_jaxpr(arrays, arguments.avals)
    return own_arrays(closed), results[-1]


def _is_abstract(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


def _bytes_by_device(leaf: Leaf) -> dict[Any, int]:
    if leaf.sharding is None:
        return {"default": leaf.bytes}
    shard = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return dict.fromkeys(leaf.sharding.device_set, shard)


def _check_donate(donate: Any, count: int) -> tuple[int, ...]:
    positions = tuple(donate) if isinstance(donate, Sequence) else (donate,)
    if any(isinstance(i, bool) for i in positions):
        raise TypeError(
            f"plan(donate=...) must be positions of arguments, not bools; got "
            f"{donate!r}. Write donate=() to keep all arguments, donate=0 to consume "
            "the first."
        )
    for i in positions:
        if not isinstance(i, int) or not 0 <= i < count:
            raise ValueError(
                f"plan(donate=...) must be positions of the {count} arguments; got "
                f"{donate!r}."
            )
    return positions
