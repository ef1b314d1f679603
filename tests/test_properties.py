"""Any argument and any config builds a working initializer or a clear error."""

import json
import math

import jax
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxinit
from cases import CASES

settings.register_profile(
    "suite",
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")

KEY = jax.random.key(0)
CLASSES = sorted({type(case.init) for case in CASES}, key=lambda cls: cls.__name__)
NAMES = sorted(jaxinit.names())

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, 1, -1, 0.5, 2.0, 1e-300, 1e300, math.inf, -math.inf]),
)
axes = st.one_of(st.integers(-4, 4), st.lists(st.integers(-4, 4), max_size=3))
strange = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.complex_numbers(),
    st.sampled_from([np.float32(0.5), np.int64(2), np.zeros(2), object(), int]),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
words = st.sampled_from(
    ["fan_in", "fan_avg", "normal", "uniform", "relative", "absolute", "hann", "rest"]
)
values = st.one_of(numbers, axes, words, strange)


def clear(error: Exception) -> bool:
    """Ours: an exact type, and a message that ends as a sentence."""
    return type(error) in (ValueError, TypeError) and str(error)[-1] in ".)'\"]"


@given(st.sampled_from(CLASSES), st.data())
def test_arguments(cls, data):
    import dataclasses

    names = [f.name for f in dataclasses.fields(cls)]
    chosen = data.draw(st.dictionaries(st.sampled_from(names), values)) if names else {}
    try:
        init = cls(**chosen)
    except (ValueError, TypeError) as error:
        assert clear(error), error
        return
    assert hash(init) == hash(init.clone()) and init.clone() == init
    shape = (2, 1, 3) if cls is jaxinit.STFT else (3, 4)
    try:
        w = init(KEY, shape)
    except (ValueError, TypeError) as error:
        assert clear(error), error
        return
    assert w.shape == shape
    if cls not in (jaxinit.Constant, jaxinit.FromArray, jaxinit.STFT):
        representable = all(
            abs(v) < 1e37
            for v in vars(init).values()
            if isinstance(v, float) and math.isfinite(v)
        )
        assert not representable or np.isfinite(w).all(), init


plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=12), words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=8), inner, max_size=3),
        st.fixed_dictionaries(
            {"class_name": st.one_of(st.sampled_from(NAMES), inner)},
            optional={
                "config": inner,
                "module": st.one_of(st.sampled_from(["jaxinit", "os"]), inner),
                "registered_name": inner,
            },
        ),
    ),
    max_leaves=12,
)
fields = st.dictionaries(
    st.sampled_from(["mean", "stddev", "scale", "in_axis", "seed", "value", "gain"]),
    plain,
    max_size=3,
)
configs = st.one_of(
    plain,
    st.fixed_dictionaries({"class_name": st.sampled_from(NAMES), "config": fields}),
)


@given(configs)
def test_deserialize_builds_or_refuses(config):
    try:
        init = jaxinit.deserialize(config)
    except (ValueError, TypeError) as error:
        assert str(error), config
        return
    assert isinstance(init, jaxinit.Initializer)
    again = json.loads(json.dumps(jaxinit.serialize(init)))
    assert jaxinit.deserialize(again) == init


@given(
    st.lists(st.integers(0, 4), max_size=4),
    st.one_of(axes, strange),
    st.one_of(axes, strange),
    st.one_of(axes, strange, st.just("rest")),
)
def test_fans_partition_the_shape(shape, in_axis, out_axis, batch_axis):
    try:
        fan_in, fan_out = jaxinit.fans(shape, in_axis, out_axis, batch_axis)
    except (ValueError, TypeError) as error:
        assert clear(error), error
        return

    def size(axes):
        axes = [axes] if isinstance(axes, int) else axes
        return math.prod(shape[a] for a in axes)

    if in_axis is None:  # Keras's rule
        in_axis, out_axis = (-2, -1) if len(shape) > 1 else ((), ())
    # fan_in / in = fan_out / out = receptive field
    assert fan_in * size(out_axis) == fan_out * size(in_axis)
    if batch_axis == "rest":
        assert (fan_in, fan_out) == (size(in_axis), size(out_axis))
    else:
        assert fan_in * size(out_axis) * size(batch_axis) == math.prod(shape)


@given(numbers, numbers, numbers, numbers)
def test_truncated_normal_stays_within_its_bounds(mean, stddev, lower, upper):
    try:
        init = jaxinit.TruncatedNormal(mean, stddev, lower, upper, bounds="absolute")
    except (ValueError, TypeError) as error:
        assert clear(error), error
        return
    if max(map(abs, (mean, stddev))) > 1e30:
        return  # beyond float32
    w = np.asarray(init(KEY, (64,)), np.float64)
    slack = 1e-6 * max(abs(mean), stddev * 6, 1e-38)
    assert lower - slack <= w.min() and w.max() <= upper + slack
