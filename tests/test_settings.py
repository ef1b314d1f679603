"""Every public function under the settings of JAX that user code may choose.

Values are those without the setting. A setting is tested as user code has it: as a
context manager, which holds for this thread, and for the whole process.
"""

import contextlib
import functools
import inspect
import warnings

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.equinox
import jaxinit.haiku
import jaxinit.keras
import jaxinit.linen
import jaxinit.nnx
from cases import CASES
from plans import assert_same

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 8))
RULES = {"**/bias": "ones", "**": "he_normal"}
# The first record of each class, in the dtype that x64 does not change.
INITIALIZERS = {type(case.init): case for case in reversed(CASES)}


@contextlib.contextmanager
def in_process(name, value):
    """A setting for all threads; some settings have no other form."""
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def everywhere(name, value):
    return functools.partial(in_process, name, value)


SETTINGS = {
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "dtype_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "x64": lambda: jax.enable_x64(True),
    "matmul_precision": lambda: jax.default_matmul_precision("highest"),
    "debug_nans": lambda: jax.debug_nans(True),
    "debug_infs": lambda: jax.debug_infs(True),
    "tracer_leaks": jax.checking_leaks,
    "checks": everywhere("jax_enable_checks", True),
    "custom_prng": lambda: jax.enable_custom_prng(True),
    "default_prng": lambda: jax.default_prng_impl("rbg"),
    "legacy_keys": lambda: jax.legacy_prng_key("error"),
    "key_reuse": lambda: jax.debug_key_reuse(True),
    "no_jit": jax.disable_jit,
    "no_jit_everywhere": everywhere("jax_disable_jit", True),
    "disallow": lambda: jax.transfer_guard("disallow"),
    "disallow_explicit": lambda: jax.transfer_guard("disallow_explicit"),
    "disallow_everywhere": everywhere("jax_transfer_guard", "disallow_explicit"),
    "constants": everywhere("jax_use_simplified_jaxpr_constants", True),
    "original_threefry": lambda: jax.threefry_partitionable(False),
}
# The values of these differ in the last bits, or are others altogether.
ROUNDED = {"no_jit", "no_jit_everywhere", "matmul_precision"}
OTHER_BITS = {"original_threefry"}
SEEDED = {"seed", "nnx.create"}  # of which JAX makes keys of the default implementation
# Those that act while a function is traced, and those that need no other program.
TRACED = {"rank_promotion", "dtype_promotion", "tracer_leaks"}
CALLED = {
    "debug_nans", "debug_infs", "default_prng", "legacy_keys",
    "disallow", "disallow_explicit", "disallow_everywhere",
}  # fmt: skip


def layers(key, x):
    """A model by hand, which no setting can make fail."""
    a, b = jax.random.split(key)
    kernel = jax.nn.initializers.he_normal()(a, (8, 4), jnp.float32)
    return {
        "layer": {"kernel": kernel, "bias": jnp.zeros((4,), jnp.float32)},
        "scale": jax.random.uniform(b, (300, 300), jnp.float32),
        "mean": x.mean(axis=0),
    }


SHAPES = {
    "layer": {
        "kernel": jax.ShapeDtypeStruct((8, 4), jnp.float32),
        "bias": jax.ShapeDtypeStruct((4,), jnp.float32),
    },
    "big": jax.ShapeDtypeStruct((130, 130), jnp.float32),
}
MADE = jaxinit.init_tree(KEY, SHAPES, RULES)
LINEN = nn.Dense(4, kernel_init=jaxinit.HeNormal())
HAIKU = hk.transform(
    lambda x: hk.Linear(4, w_init=jaxinit.haiku.to_haiku("he_normal"))(x)
)
EQUINOX = eqx.nn.Linear(8, 4, key=KEY)


def module(rngs):
    return nnx.Linear(8, 4, rngs=rngs)


def planned():
    plan = jaxinit.plan(layers, KEY, X).compile()
    assert plan.memory()["result"] and str(plan)
    return plan(KEY, X), plan(KEY, X)


def linen_planned():
    plan = jaxinit.linen.plan(LINEN, KEY, X)
    return plan(KEY, X)


def nnx_planned():
    return nnx.state(jaxinit.nnx.plan(module, KEY).compile()(KEY))


def manifest():
    made = jaxinit.manifest(MADE, RULES, KEY)
    assert not made.verify(MADE)
    return jax.random.key_data(made.key), [leaf.digest for leaf in made.leaves.values()]


def explained():
    jaxinit.Rules(RULES).explain(jaxinit.eval_shape(layers, KEY, X))


def keras():
    init = jaxinit.keras.from_keras({"class_name": "HeNormal", "config": {"seed": 3}})
    ours = jaxinit.keras.to_keras(init)
    with jaxinit.keras.scope():
        return jaxinit.keras.to_config(init)["class_name"], ours(shape=(3, 2))


# Every public function by its full name. Of the initializers, see the other test.
CALLS = {
    "plan": planned,
    "init": lambda: jaxinit.init(layers, KEY, X),
    "eval_shape": lambda: jax.tree.map(str, jaxinit.eval_shape(layers, KEY, X)),
    "init_tree": lambda: jaxinit.init_tree(KEY, SHAPES, RULES),
    "reinit": lambda: jaxinit.reinit(KEY, MADE, {"layer/kernel": "he_uniform"}),
    "fill_missing": lambda: jaxinit.fill_missing(
        KEY, {"big": MADE["big"]}, SHAPES, RULES
    ),
    "leaf_key": lambda: jaxinit.leaf_key(KEY, "a/b"),
    "manifest": manifest,
    "fans": lambda: jaxinit.fans((3, 8, 4)),
    "einsum_axes": lambda: jaxinit.einsum_axes("bi,io->bo"),
    "names": lambda: sorted(jaxinit.names()),
    "get": lambda: jaxinit.get("he_normal")(KEY, (8, 4), jnp.float32),
    "serialize": lambda: jaxinit.serialize(jaxinit.FromArray(np.ones(3)))["class_name"],
    "deserialize": lambda: jaxinit.deserialize("ones")(None, (2,), jnp.float32),
    "register": lambda: (
        jaxinit.register("zeros", override=True)(jaxinit.Zeros).__name__
    ),
    "Rules.explain": explained,
    "seed": lambda: jaxinit.HeNormal(seed=3)(shape=(8, 4), dtype=jnp.float32),
    "linen.plan": linen_planned,
    "linen.init": lambda: jaxinit.linen.init(LINEN, KEY, X, rules=RULES),
    "nnx.plan": nnx_planned,
    "nnx.create": lambda: nnx.state(jaxinit.nnx.create(module, 0, rules=RULES)),
    "nnx.explain": lambda: jaxinit.nnx.explain(module, 0, RULES),
    "haiku.to_haiku": lambda: jaxinit.init(HAIKU.init, KEY, X),
    "equinox.layouts": lambda: sorted(jaxinit.equinox.layouts(EQUINOX)),
    "keras.from_keras": keras,
    "keras.to_keras": keras,
    "keras.to_config": keras,
    "keras.scope": keras,
    "draws": lambda: draws(),
    "some": lambda: draws("zeros", "he_normal", "sparse", "stft"),
    "programs": lambda: programs(),
}


def test_every_public_function_is_called():
    found = {
        name
        for name, x in vars(jaxinit).items()
        if inspect.isfunction(x)
        and x.__module__.startswith("jaxinit")
        and not x.__module__.startswith("jaxinit.insight")  # reads graphs of the user
        and not name.startswith("_")
    }
    for adapter in ("linen", "nnx", "equinox", "haiku", "keras"):
        module = getattr(jaxinit, adapter)
        found |= {
            f"{adapter}.{name}"
            for name, x in vars(module).items()
            if inspect.isfunction(x)
            and x.__module__ == module.__name__
            and name != "probe"  # as those of jaxinit.insight
            and not name.startswith("_")
        }
    assert found <= CALLS.keys(), found - CALLS.keys()


def draws(*few):
    return {
        case.id: case.init(KEY, case.shape, jnp.float32)
        for case in INITIALIZERS.values()
        if not few or case.id in few
    }


def programs():
    """The traced programs: equal ones give equal values."""
    return {
        case.id: str(
            jax.make_jaxpr(functools.partial(case.init, shape=case.shape))(KEY)
        )
        for case in INITIALIZERS.values()
    }


@functools.cache
def expected(name):
    return values(CALLS[name])


def values(call):
    """What a call returns; strings and numbers are compared as they are."""
    return jax.tree.map(lambda x: x if hasattr(x, "dtype") else np.array(x), call())


def same(name, setting):
    before = expected(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with SETTINGS[setting]():
            after = values(CALLS[name])
    shapes = [jax.tree.map(np.shape, x) for x in (before, after)]
    assert shapes[0] == shapes[1]
    if setting in OTHER_BITS or (setting == "default_prng" and name in SEEDED):
        return
    a, b = (jax.tree.leaves(x) for x in (before, after))
    for x, y in zip(a, b, strict=True):
        if setting in ROUNDED and jnp.issubdtype(x.dtype, jnp.inexact):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5)
        else:
            assert_same(x, y)


@pytest.mark.parametrize("setting", SETTINGS)
def test_public_functions(setting, capsys):
    for name in CALLS:
        if name in ("draws", "some", "programs"):
            continue
        try:
            same(name, setting)
        except Exception as e:
            raise AssertionError(f"jaxinit.{name}: {e}") from e


@pytest.mark.parametrize("setting", sorted(TRACED))
def test_initializers_are_the_same_programs(setting):
    same("programs", setting)


@pytest.mark.parametrize("setting", sorted(CALLED))
def test_initializers(setting):
    same("draws", setting)


@pytest.mark.parametrize("setting", ["x64", "no_jit", "matmul_precision"])
def test_some_initializers(setting):
    same("some", setting)


@pytest.mark.parametrize(
    ("init", "shape"),
    [
        (jaxinit.Orthogonal(), (300, 200)),  # several strips
        (jaxinit.Orthogonal(batch_axis=0), (9, 256, 256)),
        (jaxinit.Orthogonal(), (600, 600)),  # in a loop
        (jaxinit.Orthogonal(), (5, 1)),
        (jaxinit.Orthogonal(method="qr", scale="spectral"), (6, 8)),
        (jaxinit.DeltaOrthogonal(), (3, 4, 5)),
        (jaxinit.ConvOrthogonal(), (3, 2, 2, 4, 6)),
        (jaxinit.ConvOrthogonal(), (3, 4, 5)),
    ],
)
def test_orthogonal_matrices_promote_no_rank(init, shape):
    def program(dtype):
        return str(
            jax.make_jaxpr(functools.partial(init, shape=shape, dtype=dtype))(KEY)
        )

    for dtype in (jnp.float32, jnp.complex64):
        before = program(dtype)
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            assert program(dtype) == before


def test_a_guard_stops_the_arrays_of_the_caller():
    """As it stops them in jit, if a leaf depends on them."""
    x = np.ones((2, 8), np.float32)
    plan = jaxinit.plan(layers, KEY, x).compile()
    with jax.transfer_guard("disallow"):
        with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-dev"):
            plan(KEY, x)
        unread = jaxinit.init(lambda key, x: jax.random.normal(key, (2,)), KEY, x)
    assert_same(unread, jax.random.normal(KEY, (2,)))


@pytest.mark.parametrize("guard", ["disallow", "disallow_explicit"])
def test_a_guard_spares_the_numbers_of_an_activation(guard):
    """They are jaxinit's own, and no earlier call may have left them in a cache."""

    def f(x):
        return jnp.tanh(x) + jax.nn.relu(x)

    expected = jaxinit.gain(lambda x: f(x))
    jaxinit._activations._second_moment.cache_clear()
    with jax.transfer_guard(guard):
        assert jaxinit.gain(f) == expected
        assert jaxinit.activation(f).gain == expected
        relu = jaxinit.ActivationScaled("relu")(KEY, (8, 4), jnp.float32)
    assert_same(relu, jaxinit.HeNormal()(KEY, (8, 4), jnp.float32))


@pytest.mark.parametrize("name", ["suggest", "calibrate", "probe"])
def test_a_guard_spares_the_numbers_of_insight(name):
    params = {"a": 3 * jnp.eye(8), "b": jnp.ones((8, 8))}

    def fn(params, x):
        return jnp.tanh(x @ params["a"]) @ params["b"]

    def call():
        made = getattr(jaxinit, name)(fn, params, X, **options)
        return made if name == "calibrate" else str(made)

    options = {} if name == "calibrate" else {"key": KEY}
    expected = call()
    with jax.transfer_guard_host_to_device("disallow"):
        made = call()
    if name == "calibrate":
        jax.tree.map(assert_same, made, expected)
    else:
        assert made == expected


def transfers(call, capfd):
    """Transfers from the host to a device in a warm call, as JAX logs them."""
    call()
    capfd.readouterr()
    with jax.transfer_guard_host_to_device("log_explicit"):
        call()
    return capfd.readouterr().err.count("host-to-device transfer")


def test_transfers_are_counted(capfd):
    add = jax.jit(jnp.add)
    assert transfers(lambda: add(1.0, 2.0), capfd) == 2


def test_a_warm_plan_sends_the_keys_of_a_group_at_once(capfd):
    def sent(count):
        def leaves(key):
            keys = jax.random.split(key, count)
            return [jaxinit.Orthogonal()(k, (4, 4)) for k in keys]

        plan = jaxinit.plan(leaves, KEY)
        return transfers(lambda: plan(KEY), capfd)

    assert sent(3) == sent(9) <= 3  # however many leaves there are


# A mask is an array that travels.
RANDOM = [
    case
    for case in INITIALIZERS.values()
    if not case.init.deterministic and case.id != "masked"
]


@pytest.mark.parametrize("case", RANDOM, ids=lambda case: case.id)
def test_a_warm_call_sends_no_number_to_the_device(case, capfd):
    assert transfers(lambda: case.init(KEY, case.shape), capfd) == 0


def test_numbers_on_the_device_are_told_apart():
    made = {
        repr(value): jaxinit.Constant(value)(None, (2,), jnp.float32)
        for value in (0.0, -0.0, 1, 1.0, float("inf"))
    }
    for text, x in made.items():
        np.testing.assert_array_equal(np.signbit(x), np.signbit(np.float32(text)))
        np.testing.assert_array_equal(x, np.float32(text))
    with jax.enable_x64(True):
        x = jaxinit.RandomNormal(0.1, 0.3)(KEY, (3,), "float64")
        expected = 0.1 + 0.3 * jax.random.normal(KEY, (3,), "float64")
    np.testing.assert_allclose(x, expected, rtol=1e-12)
