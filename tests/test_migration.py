"""Every line of the tables in docs/migration.md: both sides agree."""

import dataclasses
import importlib
import math
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxinit
from cases import ulps

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "migration.md"


def lines(library):
    """Returns pairs of code: the other library's, and ours."""
    text = PAGE.read_text()
    table = re.search(rf"<!-- migration: {library} -->\n(.*?)<!-- end -->", text, re.S)
    assert table
    pairs = []
    for row in table[1].splitlines()[2:]:
        left, right = (re.findall(r"`([^`]+)`", c) for c in row.split("|")[1:3])
        assert len(left) == len(right) > 0, row
        pairs += zip(left, right, strict=True)
    assert len({left for left, _ in pairs}) == len(pairs) > 10
    return pairs


def ours(code, **names):
    return eval(code, vars(jaxinit) | names)


def shapes(code):
    if "STFT" in code:
        return [(16, 1, 9)]
    if "Identity" in code:
        return [(40, 60), (60, 40)]
    if "batch_axis" in code:
        return [(30, 40, 50)]
    if "Delta" in code:
        return [(3, 3, 20, 30)]
    return [(3, 3, 20, 30)]


def same_law(a, b):
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if len(np.unique(a)) < 10:  # no draw
        np.testing.assert_array_equal(a, b)
        return
    assert stats.ks_2samp(a, b).pvalue > 1e-4
    assert abs(a.std() / b.std() - 1) < 6 / math.sqrt(a.size)


@pytest.mark.parametrize(("left", "right"), lines("keras"))
def test_keras(left, right):
    initializers = pytest.importorskip("keras").initializers
    theirs, mine = eval(left, vars(initializers)), ours(right)
    key = jnp.array([3, 0], jnp.uint32)
    if hasattr(theirs, "seed"):
        theirs.seed = 3
    for shape in shapes(right):
        expected = np.asarray(theirs(shape))
        if "STFT" in left:
            np.testing.assert_array_equal(mine(key, shape), expected)
            continue
        same_law(mine(jax.random.key(1), shape), expected)
        if "Orthogonal" in left:
            mine = dataclasses.replace(mine, method="qr")
        near = {"rtol": 1e-6, "atol": 1e-6 * abs(expected).max()}
        np.testing.assert_allclose(mine(key, shape), expected, **near)


@pytest.mark.parametrize(("left", "right"), lines("jax"))
def test_jax(left, right):
    theirs, mine = eval(left, vars(jax.nn.initializers)), ours(right)
    for shape in shapes(right):
        key = jax.random.key(3)
        expected = theirs(key, shape, jnp.float32)
        same_law(mine(jax.random.key(4), shape), expected)
        if "orthogonal" not in left or "qr" in right:
            assert ulps(mine(key, shape), expected) <= 4


def test_jax_tables_are_whole():
    """Every initializer of JAX is in the table."""
    functions = {n for n in vars(jax.nn.initializers) if n.islower() and n[0] != "_"}
    aliases = {"xavier_normal", "xavier_uniform", "kaiming_normal", "kaiming_uniform"}
    named = {re.match(r"\w+", left)[0] for left, _ in lines("jax")}
    assert functions - aliases == named


@pytest.mark.parametrize(("left", "right"), lines("haiku"))
def test_haiku(left, right):
    haiku = pytest.importorskip("haiku")
    theirs, mine = eval(left, vars(haiku.initializers)), ours(right)
    for shape in shapes(right):
        drawn = haiku.transform(lambda shape=shape: theirs(shape, jnp.float32))
        expected = drawn.apply({}, jax.random.key(3))
        same_law(mine(jax.random.key(4), shape), expected)


def test_haiku_tables_are_whole():
    """Every initializer of Haiku is in the table."""
    haiku = pytest.importorskip("haiku")
    classes = {n for n, x in vars(haiku.initializers).items() if isinstance(x, type)}
    named = {re.match(r"\w+", left)[0] for left, _ in lines("haiku")}
    assert classes - {"Initializer"} == named


def layout(shape, left):
    """Transposes (out, in, taps...) to (taps..., in, out)."""
    order = (0, 1) if "Transpose" in left else (1, 0)
    if len(shape) < 2 or "Embedding" in left:
        return shape
    return (*shape[2:], *(shape[i] for i in order))


@pytest.mark.parametrize(("left", "right"), lines("torch"))
def test_torch(left, right):
    pytest.importorskip("torch", reason="torch is not installed")
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    names = {"n": 20, "m": 1200, "nn": torch.nn, "math": math}
    mine = ours(right, **names)
    for shape in [(60, 50), (30, 20, 3, 3)]:
        flat = "eye" in left or "sparse" in left
        if flat if len(shape) > 2 else "dirac" in left:
            continue
        w = torch.empty(shape)
        tensor = eval(left, vars(torch.nn.init) | names | {"w": w}).detach().numpy()
        drawn = mine(jax.random.key(1), layout(tensor.shape, left))
        if "eye" in left:
            np.testing.assert_array_equal(drawn, tensor.T)
        elif "dirac" in left:
            np.testing.assert_array_equal(drawn, tensor.transpose(2, 3, 1, 0))
        else:
            same_law(drawn, tensor)
