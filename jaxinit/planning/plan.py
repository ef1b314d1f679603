"""Plan: compile each distinct parameter program once, run it for each leaf."""

import concurrent.futures
import contextlib
import dataclasses
import gc
import math
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from .._compat import default_place, is_evaluated, is_key, is_literal, make_jaxpr
from . import key_program
from .agreement import check_agreement
from .flatten import Program, Value, flatten
from .group import Group, group_components, lower_group, opaque_group, place_fill
from .memory import Memory
from .partition import Unanalyzable, partition
from .rows import bytes_beside, drawing_pool, start_rows
from .structure import Arguments, Result, placed
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
    """How a function's arrays are made; built by `jaxinit.plan`.

    Attributes:
        leaves: The arrays of the result, in order.
        groups: The distinct programs, each with the leaves it makes.
        reason: Why the function is compiled as it stands, or None.
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
        self._donate = _check_donate(donate, len(args))
        self._arguments = Arguments(args, kwargs)
        self._result = Result()
        self._by_place: dict[Any, dict[int, Any]] = {}
        with collector_paused():
            closed = make_jaxpr(self._traced, self._arguments.avals)
            avals = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in closed.out_avals]
            self._shardings = self._result.shardings(out_shardings, avals)
            self._program, self._keys, self.groups, self.reason = self._analyze(closed)
        self.leaves = self._leaves(avals)
        laws = [law for group in self.groups for law in group.laws]
        self._memory = Memory(law.size * law.dtype.itemsize for law in laws)

    def _traced(self, *dynamic: Any) -> list[Any]:
        args, kwargs = self._arguments.unflatten(dynamic)
        return self._result.split(self._fn(*args, **kwargs))

    def _analyze(self, closed: Any) -> tuple[Program, Any, list[Group], str | None]:
        program = flatten(closed)
        try:
            if closed.effects:
                names = ", ".join(sorted({str(e) for e in closed.effects}))
                raise Unanalyzable(f"it has side effects ({names})")
            parts = partition(program)
        except Unanalyzable as e:
            whole = opaque_group(closed, program, self._shardings)
            return program, [], [whole], str(e)
        pairs = zip(program.outputs, self._shardings, strict=True)
        shardings = {v: sharding for v, sharding in pairs if isinstance(v, Value)}
        return program, parts.keys, group_components(parts, shardings), None

    def _leaves(self, avals: Sequence[jax.ShapeDtypeStruct]) -> list[Leaf]:
        makers: dict[Value, int] = {}
        for g, group in enumerate(self.groups):
            for member in group.members:
                makers.update(dict.fromkeys(member.outputs, g))
        leaves: list[Leaf] = []
        for i, aval in enumerate(avals):
            out = self._program.outputs[i]
            g = makers.get(out) if isinstance(out, Value) else None
            leaf = Leaf(
                path=self._result.paths[i],
                shape=aval.shape,
                dtype=aval.dtype,
                bytes=math.prod(aval.shape) * aval.dtype.itemsize,
                group=g,
                sharding=self._shardings[i],
                coarse=None if g is None else self.groups[g].coarse,
            )
            leaves.append(leaf)
            if g is not None:
                self.groups[g].leaves.append(i)
        return leaves

    def compile(self) -> "Plan":
        """Compiles every group ahead of time, several at once.

        Returns:
            The plan itself.
        """
        for _ in self._compiling():
            pass
        return self

    def _compiling(self) -> Iterator[int]:
        """Yields the number of each group as soon as it is ready to run."""
        groups = self.groups
        todo = {g for g, x in enumerate(groups) if x.fill is None} - {*self._compiled}
        ready = [g for g in range(len(groups)) if g not in todo]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            # Lowered here: settings under a context manager are this thread's own.
            futures = {
                pool.submit(lower_group(groups[g], self._program)): g
                for g in sorted(todo, key=self._cost, reverse=True)
            }
            yield from ready
            done = concurrent.futures.as_completed(futures)
            for count, future in enumerate(done, 1):
                g = futures[future]
                self._compiled[g] = future.result()
                self._progress(count, len(todo), "compiled")
                yield g

    @property
    def _compiled(self) -> dict[int, Any]:
        """The programs so far of results that lie where they would now."""
        return self._by_place.setdefault(default_place(), {})

    def _cost(self, g: int) -> tuple[int, int]:
        """How long a group takes to compile, roughly, and then to run."""
        group = self.groups[g]
        operations = len(group.members[0].nodes)
        return operations.bit_length(), sum(self.leaves[i].bytes for i in group.leaves)

    def texts(self) -> list[str]:
        """The compiled text of every program so far, for inspection."""
        return [compiled.as_text() for compiled in self._compiled.values()]

    def memory(self) -> dict[str, int]:
        """Bytes on the device that holds most, from shapes and shardings.

        Returns:
            ``result``: bytes of the leaves; ``temporary``: the most that one
            compiled program needs beside them, and the blocks that are drawn at
            once (0 before `compile`); ``peak``: their sum.
        """
        held: dict[Any, int] = {}
        for leaf in self.leaves:
            for device, count in _bytes_by_device(leaf).items():
                held[device] = held.get(device, 0) + count
        analyses = [compiled.memory_analysis() for compiled in self._compiled.values()]
        temporary = max((x.temp_size_in_bytes for x in analyses if x), default=0)
        temporary += bytes_beside([self.groups[g].laws for g in self._compiled])
        result = max(held.values(), default=0)
        return {"result": result, "temporary": temporary, "peak": result + temporary}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function for these arguments.

        Compiles what is not compiled yet. Inside jit, vmap, grad or eval_shape,
        or where jit is disabled, the function itself is evaluated.

        Raises:
            TypeError: If the arguments differ from the planned ones in
                structure, shape, dtype or key implementation.
            RuntimeError: If processes disagree on plan or keys, or settings changed.
        """
        if is_evaluated(args, kwargs):
            return self._fn(*args, **kwargs)
        with collector_paused():
            return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        dynamic = self._arguments.flatten(args, kwargs)
        program = self._program
        env: dict[Value, Any] = dict(program.constants)
        for v in filter(lambda v: is_key(program.avals[v]), program.constants):
            env[v] = key_program.to_host(env[v], program.avals[v])
        for v, x in zip(program.inputs, dynamic, strict=True):
            env[v] = key_program.to_host(x, program.avals[v])
        key_program.evaluate(self._keys, env, program.avals)
        check_agreement(self.leaves, [env[v] for n in self._keys for v in n.outputs])
        self._make(env)
        outputs = self._outputs(env)
        results = [env[a] for a in program.outputs if not is_literal(a)]
        for i in self._donate:
            for x in jax.tree.leaves(args[i]):
                if isinstance(x, jax.Array) and not any(x is out for out in results):
                    x.delete()
        return self._result.join(outputs)

    def _make(self, env: dict[Value, Any]) -> None:
        """Adds what the groups make, each as soon as it is compiled."""
        drawn: list[tuple[list[Value], Callable[[], list[jax.Array]]]] = []
        waiting: list[tuple[int, int]] = []
        with drawing_pool() as pool:
            for g in self._compiling():
                group = self.groups[g]
                values = [v for member in group.members for v in member.outputs]
                if group.fill is not None:
                    filled = place_fill(group, self._program)
                    env.update(zip(values, filled, strict=True))
                elif group.laws:
                    words = [env[v] for member in group.members for v in member.inputs]
                    compiled = self._compiled[g]
                    finish = start_rows(group.laws, words, compiled, self._memory, pool)
                    drawn.append((values, finish))
                else:
                    waiting += [(g, i) for i in range(len(group.members))]
                waiting = self._run(waiting, env)
            for values, finish in drawn:
                env.update(zip(values, finish(), strict=True))
        self._run(waiting, env)

    def _run(
        self, waiting: list[tuple[int, int]], env: dict[Value, Any]
    ) -> list[tuple[int, int]]:
        """Runs the members of groups whose inputs are there; returns the others."""
        count = len(waiting) + 1
        while len(waiting) < count:
            count, later = len(waiting), list[tuple[int, int]]()
            for g, i in waiting:
                member = self.groups[g].members[i]
                if any(v not in env for v in member.inputs):
                    later.append((g, i))
                else:
                    made = self._compiled[g](*(env[v] for v in member.inputs))
                    env.update(zip(member.outputs, made, strict=True))
            waiting = later
        return waiting

    def _outputs(self, env: dict[Value, Any]) -> list[Any]:
        program = self._program
        outputs: list[Any] = []
        constant: list[int] = []
        for i, atom in enumerate(program.outputs):
            if is_literal(atom):
                value = np.array(atom.val, atom.aval.dtype)
                outputs.append(value.item() if atom.aval.weak_type else value)
                constant.append(i)
                continue
            value = env[atom]
            if value is program.constants.get(atom):
                constant.append(i)
            if self.leaves[i].group is None:
                value = key_program.to_device(value, program.avals[atom])
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


@contextlib.contextmanager
def collector_paused() -> Generator[None]:
    """Without garbage collection, which walks all that a process has traced so far."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _bytes_by_device(leaf: Leaf) -> dict[Any, int]:
    if leaf.sharding is None:
        return {"default": leaf.bytes}
    shard = math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    return dict.fromkeys(leaf.sharding.device_set, shard)


def _check_donate(donate: Any, count: int) -> tuple[int, ...]:
    positions = tuple(donate) if isinstance(donate, Sequence) else (donate,)
    for i in positions:
        if not isinstance(i, int) or not 0 <= i < count:
            raise ValueError(
                f"plan(donate=...) must be positions of the {count} arguments; got "
                f"{donate!r}."
            )
    return positions
