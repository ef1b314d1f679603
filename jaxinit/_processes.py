"""The processes of a job tell each other what they are about to do, and that they fail.

Every process takes part in every exchange, in the same order. A process that fails
before an exchange that the others wait for takes part with its error instead.
One process alone exchanges nothing.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias

import jax
import numpy as np

from ._checks import clip, printable
from ._compat import is_staging, read_settings

Facts: TypeAlias = Mapping[str, Mapping[str, str]]  # subject, name, text
_MOST = 3  # names that an error lists
_LONGEST = 2000  # characters of another process's error
_CURE = (
    "Every process has to make the same calls, with the same arguments, under the "
    "same settings and versions."
)


class _Thread(threading.local):
    exchanges = 0  # so far
    is_alone = False


_thread = _Thread()


def are_several() -> bool:
    """True if other processes take part in this call."""
    return not _thread.is_alone and jax.process_count() > 1 and not is_staging()


@contextlib.contextmanager
def alone() -> Generator[None]:
    """A context in which the process computes something for itself."""
    before, _thread.is_alone = _thread.is_alone, True
    try:
        yield
    finally:
        _thread.is_alone = before


@contextlib.contextmanager
def errors_told(where: str) -> Generator[None]:
    """A context in which the processes agree at least once.

    An error before the first agreement is told to the processes that wait for it.

    Args:
        where: The call, for messages.
    """
    before = _thread.exchanges
    try:
        yield
    except Exception as e:
        if _thread.exchanges == before and are_several():
            text = clip(f"{type(e).__name__}: {e}", _LONGEST)
            _all_reports(
                {"where": where, "process": jax.process_index(), "error": text}
            )
        raise


def agree(where: str, facts: Callable[[], Facts]) -> None:
    """Raises in every process if some process states other facts, or has failed.

    Args:
        where: The call, for messages.
        facts: Names and texts by subject. The error is about the first subject in
            which two processes differ.

    Raises:
        RuntimeError: If the processes do not agree.
    """
    if are_several():
        everyone = _all_reports({"where": where, "facts": facts()})
        _check_calls(where, everyone)
        how = _disagreement([report["facts"] for report in everyone])
        if how:
            raise RuntimeError(f"{where}: {how}. {_CURE}")


def exchange(where: str, data: Callable[[], Any]) -> list[Any]:
    """The plain data of every process, in their order; of one process its own.

    Args:
        where: The call, for messages.
        data: Gives what JSON can hold.

    Raises:
        RuntimeError: If another process has failed, or made another call.
    """
    if not are_several():
        return [data()]
    everyone = _all_reports({"where": where, "data": data()})
    _check_calls(where, everyone)
    return [report["data"] for report in everyone]


def environment() -> Facts:
    """The versions and settings on which values depend."""
    return {"versions": versions(), "settings": settings()}


def versions() -> dict[str, str]:
    """The versions of the libraries that compute values."""
    return {name: version(name) for name in ("jaxinit", "jax", "jaxlib")}


def settings() -> dict[str, str]:
    """The settings of JAX on which values depend."""
    return {name: str(value) for name, value in read_settings().items()}


def _all_reports(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The reports of all processes."""
    _thread.exchanges += 1
    text = json.dumps(report).encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    digests = _all_gather(digest)
    if (digests == digest).all():  # the usual case: no text travels
        return [json.loads(text)] * len(digests)
    # 32-bit sizes, because the processes may differ in jax_enable_x64.
    sizes = _all_gather(np.array([len(text)], np.uint32))
    padded = np.frombuffer(text.ljust(int(sizes.max())), np.uint8)
    return [json.loads(row.tobytes()) for row in _all_gather(padded)]


def _all_gather(x: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    # A program of its own, whatever the caller's settings are.
    with jax.disable_jit(False), jax.transfer_guard("allow"):
        return np.asarray(multihost_utils.process_allgather(x))


def _check_calls(where: str, everyone: Sequence[Mapping[str, Any]]) -> None:
    """Raises if a process has failed, or has made another call."""
    failed = [r for r in everyone if "error" in r]
    if failed:
        numbers = " and ".join(f"process {r['process']}" for r in failed[:_MOST])
        errors = "; ".join(dict.fromkeys(r["error"] for r in failed[:_MOST]))
        raise RuntimeError(
            f"{where}: {numbers} failed, so that no process goes on: {errors}"
        )
    calls = [r["where"] for r in everyone]
    others = [i for i, call in enumerate(calls) if call != calls[0]]
    if others:
        raise RuntimeError(
            f"{where}: process 0 calls {calls[0]}, process {others[0]} calls "
            f"{calls[others[0]]}. {_CURE}"
        )


def _disagreement(everyone: Sequence[Facts]) -> str:
    """In which subject the facts of processes differ, and how; empty if in none."""
    for subject, first in everyone[0].items():
        texts = [facts.get(subject, {}) for facts in everyone]
        others = [i for i, text in enumerate(texts) if text != first]
        if others:
            numbers = ", ".join(map(str, others))
            how = _difference(first, texts[others[0]], others[0])
            return f"the {subject} of processes 0 and {numbers} differ: {how}"
    return ""


def _difference(a: Mapping[str, str], b: Mapping[str, str], process: int) -> str:
    """The first names whose texts differ, with those of process 0 and of another."""
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    shown = [
        f"{printable(name)} is {_shown(a.get(name))} in process 0 and "
        f"{_shown(b.get(name))} in process {process}"
        for name in names[:_MOST]
    ]
    more = [f"and {len(names) - _MOST} more"] if names[_MOST:] else []
    return "; ".join([*shown, *more])


def _shown(text: str | None) -> str:
    return "not there" if text is None else printable(text)
