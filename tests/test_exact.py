"""Values that Python takes for equal, and that give other results, share no cache."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import functional
from jaxinit._exact import exact
from jaxinit.planning.ir import params_signature

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Filled(jaxinit.Initializer):
    """A class of a user's, whose one field may hold anything."""

    value: Any = 0.0

    def sample(self, key, shape, dtype):
        value = self.value[0] if isinstance(self.value, tuple) else self.value
        return jnp.full(shape, 2.0 if value is True else value, dtype)


COMBINED = {
    "alone": lambda x: x,
    "Stacked": jaxinit.Stacked,
    "Blocks": lambda x: jaxinit.Blocks(x, sizes=(1, 1)),
    "Concatenate": lambda x: jaxinit.Concatenate([x, x], sizes=(1, 1)),
    "Scaled": lambda x: jaxinit.Scaled(x, 1.0),
    "Masked": lambda x: jaxinit.Masked(x, mask=np.ones((2, 2, 2), bool)),
    "Clipped": lambda x: jaxinit.Clipped(x, -5.0, 5.0),
    "AsDtype": lambda x: jaxinit.AsDtype(x, "float32"),
    "ICNR": lambda x: jaxinit.ICNR(x, 1),
    "twice": lambda x: jaxinit.Stacked(jaxinit.Scaled(x, 1.0)),
}


@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.parametrize("make", [jaxinit.Constant, Filled, lambda v: Filled((v, 1))])
def test_minus_zero_keeps_its_sign_after_zero(name, make):
    combine = COMBINED[name]
    for value in (0.0, -0.0, 0.0):
        made = combine(make(value))(KEY, (2, 2, 2))
        assert (np.signbit(made) == np.signbit(value)).all(), value


def test_true_is_not_one():
    for value, expected in ((1, 1.0), (True, 2.0), (1.0, 1.0)):
        for init in (Filled(value), Filled((value,)), jaxinit.Stacked(Filled(value))):
            assert (np.asarray(init(KEY, (2, 2))) == expected).all(), value


@pytest.mark.parametrize("axis", [True, 1.0, np.float32(1)])
def test_axes_are_checked_after_equal_good_ones(axis):
    functional.he_normal(KEY, (3, 4), in_axis=(1,), out_axis=(0,))
    with pytest.raises((TypeError, ValueError), match="in_axis"):
        functional.he_normal(KEY, (3, 4), in_axis=(axis,), out_axis=(0,))


def test_fixed_arguments_of_a_plan_are_compared_by_their_bits():
    planned = jaxinit.plan(lambda key, x: jnp.full((2,), x), KEY, 0.0)
    assert not np.signbit(planned(KEY, 0.0)).any()
    with pytest.raises(TypeError, match=r"was 0\.0 when .* is -0\.0 now"):
        planned(KEY, -0.0)


def test_a_repr_shows_the_sign_of_zero():
    assert repr(jaxinit.Constant(-0.0)) == "Constant(value=-0.0)"
    assert repr(jaxinit.Constant(0.0)) == "Constant()"


def test_parameters_of_operations_differ_by_their_bits():
    values = [0.0, -0.0, 0, False, np.float32(0), (0.0,), (-0.0,), Filled(0.0)]
    values += [Filled(-0.0), float("nan")]
    found = {params_signature({"x": value}) for value in values}
    assert len(found) == len(values)
    assert params_signature({"x": float("nan")}) in found
    assert exact(Filled(1)) == exact(Filled(1)) != exact(Filled(1.0))
