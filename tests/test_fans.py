"""Fans and einsum axes."""

import jax
import numpy as np
import pytest

import jaxinit
from jaxinit import einsum_axes, fans


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((784, 256), {}, (784, 256)),
        ((3, 3, 64, 128), {}, (576, 1152)),
        ((3, 3, 1, 128), {}, (9, 1152)),
        ((8, 512, 256), {"batch_axis": 0}, (512, 256)),
        ((8, 512, 256), {"batch_axis": -3}, (512, 256)),
        ((768, 12, 64), {"in_axis": 0, "out_axis": (1, 2)}, (768, 768)),
        ((12, 64, 768), {"in_axis": (0, 1), "out_axis": 2}, (768, 768)),
        ((128, 64, 3, 3), {"in_axis": 1, "out_axis": 0}, (576, 1152)),
        ((5, 7, 11), {"in_axis": 0, "out_axis": 2, "batch_axis": "rest"}, (5, 11)),
        ((10,), {"in_axis": 0, "out_axis": ()}, (10, 1)),
        ((), {"in_axis": (), "out_axis": ()}, (1, 1)),
        ((0, 4), {}, (0, 4)),
        ((3, 3, 64, 128), {"in_axis": None, "out_axis": None}, (576, 1152)),
        ((10,), {"in_axis": None, "out_axis": None}, (10, 10)),
        ((), {"in_axis": None, "out_axis": None}, (1, 1)),
    ],
)
def test_fans(shape, axes, expected):
    assert fans(shape, **axes) == expected


@pytest.mark.parametrize("shape", [(7, 5), (3, 3, 7, 5), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_fans_agree_with_jax(shape, mode):
    """Compares by the standard deviation that JAX derives from its fans."""
    key = jax.random.key(0)
    theirs = jax.nn.initializers.variance_scaling(1.0, mode, "uniform")(key, shape)
    ours = jaxinit.VarianceScaling(1.0, mode, "uniform")(key, shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((3,), {}, r"in_axis=0, out_axis=\(\)"),
        ((), {}, r"in_axis=\(\), out_axis=\(\)"),
        ((3, 4), {"in_axis": 2}, r"in_axis=.*within the 2 dimensions.*got 2"),
        ((3, 4), {"in_axis": -3}, r"within the 2 dimensions"),
        ((3, 4), {"out_axis": 0}, r"disjoint from in_axis.*Axis 0"),
        ((3, 4, 5), {"batch_axis": 1}, r"batch_axis=.*disjoint from in_axis"),
        ((3, 4, 5), {"batch_axis": -1}, r"batch_axis=.*disjoint from out_axis"),
        ((3, 4, 5), {"in_axis": (0, -3)}, r"distinct axes"),
        ((3, 4), {"in_axis": None}, r"out_axis=.*None if in_axis is None"),
        (
            (3, 4),
            {"in_axis": None, "out_axis": None, "batch_axis": 0},
            r"batch_axis=.*if in_axis and out_axis are None",
        ),
    ],
)
def test_wrong_axes_name_argument_and_cure(shape, axes, message):
    with pytest.raises(ValueError, match=message):
        fans(shape, **axes)
    with pytest.raises(ValueError, match=message):
        jaxinit.HeNormal(**axes)(jax.random.key(0), shape)


@pytest.mark.parametrize(
    ("equation", "operand", "expected"),
    [
        ("btd,dhk->bthk", 1, ((0,), (1, 2), ())),
        ("bthk,hkd->btd", 1, ((0, 1), (2,), ())),
        ("ebd,edf->ebf", 1, ((1,), (2,), (0,))),
        ("...d,df->...f", 1, ((0,), (1,), ())),
        ("df,bd->bf", 0, ((0,), (1,), ())),
        ("bd, dk -> b", 1, ((0, 1), (), ())),
    ],
)
def test_einsum_axes(equation, operand, expected):
    got = einsum_axes(equation, operand)
    assert got == dict(
        zip(("in_axis", "out_axis", "batch_axis"), expected, strict=True)
    )


def test_einsum_axes_keep_the_variance_of_the_result():
    """E y^2 = E x^2 with LeCun's scheme and the axes of the equation."""
    equation = "ebd,edhk->ebhk"
    kernel = jaxinit.LecunNormal(**einsum_axes(equation))
    w = kernel(jax.random.key(0), (4, 256, 8, 16))
    x = jax.random.normal(jax.random.key(1), (4, 128, 256))
    y = np.einsum(equation, x, w)
    assert abs(y.var() - 1) < 0.05


@pytest.mark.parametrize(
    ("equation", "operand"),
    [("ab,bc", 1), ("ab->a", 1), ("ab,bb->a", 1), ("ab,b...->a", 1), ("ab,bc->ac", 2)],
)
def test_einsum_axes_refuses(equation, operand):
    with pytest.raises(ValueError, match="einsum_axes"):
        einsum_axes(equation, operand)


def test_einsum_axes_refuses_types():
    with pytest.raises(TypeError):
        einsum_axes(3)
    with pytest.raises(TypeError):
        einsum_axes("ab,bc->ac", True)
