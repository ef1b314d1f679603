"""Messages for mistakes that other libraries would report less clearly."""

import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers as jax_init

import jaxinit
from jaxinit import functional
from jaxinit._checks import clip, printable, short
from jaxinit._paths import unique_paths
from jaxinit.initializers.stft import WINDOWS

KEY = jax.random.key(0)
LEAF = jax.ShapeDtypeStruct((2, 3), "float32")


def refused(make, kind, message):
    with pytest.raises(kind, match=message) as e:
        make()
    assert type(e.value) is kind and len(str(e.value)) < 1000


# Calls without a key use the seed.


@pytest.mark.parametrize(
    "init",
    [jaxinit.HeNormal(seed=3), jaxinit.Stacked("he_normal", seed=3), jaxinit.Zeros()],
)
def test_a_key_may_be_left_out_if_there_is_a_seed(init):
    expected = init(jax.random.key(3), (2, 3, 4))
    np.testing.assert_array_equal(init(shape=(2, 3, 4)), expected)
    np.testing.assert_array_equal(init(None, (2, 3, 4)), expected)
    other = init(jax.random.key(4), shape=(2, 3, 4))
    assert (other == init(jax.random.key(4), (2, 3, 4))).all()


def test_a_call_without_a_key_and_a_seed_names_the_cure():
    call = "a PRNG key, because the initializer has no seed; got None"
    both = r"Pass jax.random.key\(0\), or build HeNormal with seed=0"
    refused(lambda: jaxinit.HeNormal()(shape=(2, 3)), TypeError, f"{call}.*{both}")
    refused(lambda: jaxinit.HeNormal()(None, (2, 3)), TypeError, both)
    refused(lambda: jaxinit.HeNormal(seed=1)(), TypeError, "a call needs a shape")
    refused(lambda: jaxinit.Zeros()(), TypeError, "a call needs a shape")
    # A function has no seed, and neither has a combinator of a function.
    for make in (
        lambda: functional.he_normal(None, (2, 3)),
        lambda: functional.scaled(None, (2, 3), initializer="he_normal", factor=2),
    ):
        refused(make, TypeError, r"got None\. Make one with jax.random.key\(0\)\.$")


# Names that jax.nn also has, with other meanings of their arguments.


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxinit.truncated_normal(0.02), "is the mean here.*stddev=0.02"),
        (lambda: jaxinit.truncated_normal(1, lower=-1.0), "stddev=1; .*write mean=1"),
        (lambda: jaxinit.TruncatedNormal(0.02, seed=3), "the stddev in jax.nn"),
        (lambda: jaxinit.delta_orthogonal(1.0, -1), "the batch_axis here.*column_axis"),
    ],
)
def test_numbers_with_another_meaning_in_jax_are_refused(make, message):
    refused(make, TypeError, message)


def test_every_other_positional_argument_means_the_same_or_is_refused():
    """This fails if jaxinit adds a name of jax.nn, or jax.nn adds an argument."""
    import inspect

    renamed = {"scale": "gain"}
    otherwise = {("truncated_normal", "mean"), ("delta_orthogonal", "batch_axis")}
    # A dtype in jax.nn is no number, axis or seed, so a check here refuses it.
    for name in vars(jax_init):
        theirs, ours = getattr(jax_init, name), getattr(jaxinit, name, None)
        if ours is None or name in ("zeros", "ones") or name.startswith("_"):
            continue
        if not inspect.isfunction(theirs):
            continue
        names = [list(inspect.signature(f).parameters) for f in (theirs, ours)]
        for their, our in zip(*names, strict=False):
            if their not in ("dtype", our) and renamed.get(their) != our:
                assert (name, our) in otherwise, (name, their, our)


def test_numbers_with_the_same_meaning_in_jax_are_accepted():
    assert jaxinit.TruncatedNormal(0.0, 0.02) == jaxinit.TruncatedNormal(stddev=0.02)
    assert jaxinit.TruncatedNormal(0.5, stddev=1.0).mean == 0.5
    assert jaxinit.RandomUniform(0.0, 1.0).maxval == 1.0
    assert jaxinit.RandomNormal(0.5).mean == 0.5  # Keras's name and meaning
    assert jaxinit.Orthogonal(2.0, -1).gain == 2.0
    assert jaxinit.HeNormal(-2, -1, 0).batch_axis == 0
    assert jaxinit.DeltaOrthogonal(2.0, (0,)).batch_axis == (0,)


def test_unknown_arguments_name_the_known_ones():
    message = r"no argument 'std'\. Did you mean stddev\? .*: mean, stddev, seed\."
    refused(lambda: jaxinit.RandomNormal(std=0.02), TypeError, message)
    refused(lambda: jaxinit.Zeros(**{"x" * 10**6: 1}), TypeError, "arguments are: none")


# Factories, and functions of PyTorch.


def own_factory(in_axis=0, out_axis=1, scale=2.0):
    return jax_init.zeros


@pytest.mark.parametrize(
    "factory",
    [
        jax_init.he_normal,
        jax_init.variance_scaling,
        jax_init.constant,
        jax_init.normal,
        lambda: jax_init.zeros,
    ],
)
def test_a_factory_that_was_not_called(factory):
    message = "is a factory: call it, as "
    refused(lambda: jaxinit.get(factory), TypeError, message)
    refused(lambda: jaxinit.Rules({"a": factory}), TypeError, f"rule 1.*{message}")


def test_a_factory_is_recognized_by_its_result():
    message = r"own_factory is a factory: call it, as own_factory\(\.\.\.\)"
    draw = lambda: jaxinit.init_tree(KEY, {"a": LEAF}, {"a": own_factory})  # noqa: E731
    with pytest.raises(ValueError, match=message):
        draw()
    refused(lambda: jaxinit.Scaled(own_factory, 2.0)(KEY, (2, 3)), TypeError, message)


def test_initializers_of_jax_are_no_factories():
    for init in (jax_init.zeros, jax_init.ones, jax_init.he_normal()):
        assert jaxinit.get(init) is init


def test_a_function_of_pytorch():
    def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu"): ...

    kaiming_normal_.__module__ = "torch.nn.init"
    refused(
        lambda: jaxinit.get(kaiming_normal_), TypeError, "fills a tensor of PyTorch"
    )


# Plain data of wrong kinds and sizes.


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: jaxinit.AsDtype("ones", ","), TypeError, "sample_dtype"),
        (lambda: HE(KEY, (2, 3), ","), TypeError, "dtype"),
        (lambda: jaxinit.Constant(ARRAY), ValueError, "number or an array"),
        (lambda: jaxinit.Constant(["x"]), TypeError, "number or an array"),
        (lambda: jaxinit.DepthScaled("ones", 10**400), ValueError, "64 bits"),
        (lambda: jaxinit.DepthScaled("ones", 3, 10**400), ValueError, "64 bits"),
        (lambda: jaxinit.Identity(shift=10**400), ValueError, "64 bits"),
        (lambda: jaxinit.Identity(gain=KEY), TypeError, "finite real number"),
        (lambda: jaxinit.HeNormal(KEY, -1), TypeError, "add \\(\\)"),
        (lambda: jaxinit.HeNormal(in_axis=KEY), TypeError, "in_axis"),
        (lambda: jaxinit.HeNormal(range(65), 0), ValueError, "at most 64 axes"),
        (lambda: HE(KEY, (1,) * 65), ValueError, "at most 64 dimensions"),
        (lambda: jaxinit.Zeros()(None, (1,) * 70), ValueError, "at most 64 dim"),
        (lambda: jaxinit.fans((1,) * 70), ValueError, "at most 64 dimensions"),
        (lambda: HE(KEY, (2**31, 2**31)), ValueError, r"fewer than 2\*\*59 elements"),
        (lambda: HE(KEY, (0, 2**62, 8)), ValueError, r"fewer than 2\*\*59 elements"),
        (lambda: jaxinit.leaf_key(KEY, [1]), TypeError, r"path=\.\.\.\) must be a str"),
        (lambda: jaxinit.leaf_key(KEY, b"x"), TypeError, "must be a str"),
        (lambda: jaxinit.leaf_key(KEY, 3), TypeError, "must be a str"),
        (lambda: jaxinit.get("x" * 10**6), ValueError, "names no registered"),
    ],
)
def test_wrong_kinds(make, kind, message):
    refused(make, kind, message)


HE = jaxinit.HeNormal()
ARRAY = {"class_name": "__numpy__", "config": {"value": 1, "dtype": ","}}


def test_the_largest_shapes_still_work():
    made = jax.eval_shape(lambda: jaxinit.Zeros()(None, (2**29, 2**29), "int8"))
    assert made.shape == (2**29, 2**29)
    assert HE(KEY, (1,) * 62 + (2, 3)).shape == (1,) * 62 + (2, 3)


def test_many_blocks_of_nothing():
    assert jaxinit.Blocks("ones", 10**12)(KEY, (2, 0)).shape == (2, 0)
    np.testing.assert_array_equal(jaxinit.Blocks("ones", 4)(KEY, (4,)), np.ones(4))
    refused(lambda: jaxinit.Blocks("ones", 3)(KEY, (4,)), ValueError, "3 equal parts")


@pytest.mark.parametrize("init", [jaxinit.HeNormal(), jaxinit.Zeros()])
def test_out_of_memory_is_a_memory_error(init):
    shape = (2**24, 2**24)
    with pytest.raises(
        MemoryError, match=r"float32\[16777216, 16777216\] of 1.05e\+06"
    ):
        init(KEY, shape)
    assert jax.eval_shape(lambda key: init(key, shape), KEY).shape == shape


# Texts in messages are bounded and harmless.


def test_texts_are_bounded_and_escaped():
    assert printable("a\x1b[2J\n\u202eb\ud800") == r"a\x1b[2J\n\u202eb\ud800"
    assert printable("é😀 ✓") == "é😀 ✓"
    for most in (10, 11, 120):
        text = clip("a" * 500 + "b" * 500, most)
        assert len(text) == most and text[0] == "a" and text[-1] == "b"
    assert clip("abc", 3) == "abc"
    deep = ["x" * 10**5]
    for _ in range(9):
        deep = [deep] * 10
    for value in (
        deep,
        10**5000,
        {"a" * 10**5: deep},
        ["\x1b" * 100] * 100,
        "x" * 10**6,
    ):
        assert len(short(value)) <= 300 and short(value).isprintable()


def test_reprs_of_initializers_are_bounded():
    many = jaxinit.Concatenate(["zeros"] * 10_000)
    assert repr(many).endswith("Zeros(), ... 9950 more))")
    nested = "zeros"
    for _ in range(4):
        nested = jaxinit.Concatenate([nested] * 9)
    assert len(repr(nested)) <= 2000
    few = jaxinit.Concatenate(["zeros"] * 50)
    assert eval(repr(few), vars(jaxinit)) == few


def test_paths_are_shown_without_control_characters(capsys):
    tree = {"a\x1b[2J": jnp.ones(3), "b" * 10**5: jnp.ones(2)}
    rules = jaxinit.Rules({"*\x1b[2J": "he_normal", "c\x1b": "ones"}, strict=False)
    rules.explain(tree)
    out = capsys.readouterr().out
    assert r"a\x1b[2J" in out and "\x1b" not in out
    assert max(map(len, out.splitlines())) < 2000
    with pytest.warns(UserWarning) as said, pytest.raises(ValueError) as e:
        jaxinit.init_tree(KEY, tree, jaxinit.Rules(rules.rules, "ones", strict=False))
    for text in (str(e.value), str(said[0].message)):
        assert "\x1b" not in text and len(text) < 2000
    made = jaxinit.manifest(tree)
    (difference, _) = made.verify({"a\x1b[2J": jnp.zeros(3)})
    assert str(difference).isprintable()


def test_many_idle_rules_are_summed_up():
    rules = jaxinit.Rules({f"a{i}": "zeros" for i in range(1000)})
    tree = {f"b{i}": LEAF for i in range(300)}
    with pytest.raises(ValueError, match="and 990 more rules") as e:
        rules.assign(tree).check()
    assert len(str(e.value)) < 2000
    one = jaxinit.Rules({"block_0/kernle": "zeros"})
    tree = {f"block_{i}": {"kernel": LEAF, "bias": LEAF} for i in range(300)}
    with pytest.raises(ValueError, match=r"there is block_0/kernel and"):
        one.assign(tree).check()


def test_a_config_of_another_library_has_its_cure():
    config = types.SimpleNamespace(to_dict=lambda: {}, rules={})
    refused(
        lambda: jaxinit.Rules.from_config(config), TypeError, r"Pass its to_dict\(\)"
    )


def test_windows_are_those_of_scipy():
    signal = pytest.importorskip("scipy.signal")
    for name in WINDOWS:
        jaxinit.STFT(window=name)
        try:
            assert len(signal.get_window(name, 5)) == 5
        except ValueError:
            assert name in ("exponential", "poisson", "rect"), name  # newer than some
    for name in vars(signal.windows):
        try:
            signal.get_window(name, 5)
        except (ValueError, TypeError):
            refused(lambda n=name: jaxinit.STFT(window=n), ValueError, "needs no param")
        else:
            assert name in WINDOWS
    for end in ("periodic", "symmetric"):  # stronger than the field
        expected = jaxinit.STFT(window="hann", periodic=end == "periodic")
        for periodic in (True, False):
            init = jaxinit.STFT(window=f"hann_{end}", periodic=periodic)
            np.testing.assert_array_equal(
                init(None, (6, 1, 4)), expected(None, (6, 1, 4))
            )


def test_two_leaves_of_one_path_are_found_in_linear_time():
    parts = [(f"x{i}",) for i in range(300_000)] + [("z" * 10**5 + "\x1b",)] * 2
    start = time.process_time()
    with pytest.raises(ValueError, match="two leaves of the tree have the path") as e:
        unique_paths("manifest", parts)
    assert time.process_time() - start < 5
    assert len(str(e.value)) < 500 and "\x1b" not in str(e.value)


@pytest.mark.parametrize("value", [np.array([0, 1]), np.array(0), [0, 1], "x", None])
def test_batch_axes_may_be_an_array(value):
    """No array is compared with text."""
    if value is None or isinstance(value, str):
        message = r"batch_axis=...\) must be an int or a tuple of ints"
        refused(lambda: jaxinit.fans((2, 3, 4, 5), -2, -1, value), TypeError, message)
    else:
        expected = jaxinit.fans((2, 3, 4, 5), -2, -1, tuple(np.ravel(value)))
        assert jaxinit.fans((2, 3, 4, 5), -2, -1, value) == expected


# Arguments that are no functions, trees, rules or paths.

UNSORTED = {"a": {1: LEAF, "b": LEAF}}
DEEP = LEAF
for _ in range(20_000):
    DEEP = [DEEP]
TREES = {
    "init_tree": lambda tree: jaxinit.init_tree(KEY, tree, {"**": "ones"}),
    "reinit": lambda tree: jaxinit.reinit(KEY, tree, {"**": "ones"}),
    "like": lambda tree: jaxinit.reinit(KEY, {"a": LEAF}, {"**": "ones"}, like=tree),
    "loaded": lambda tree: jaxinit.fill_missing(KEY, tree, {"a": LEAF}, {}),
    "wanted": lambda tree: jaxinit.fill_missing(KEY, {}, tree, {}),
    "assign": lambda tree: jaxinit.Rules({}).assign(tree),
    "manifest": lambda tree: jaxinit.manifest(tree),
    "verify": lambda tree: jaxinit.manifest({"a": jnp.ones(2)}).verify(tree),
    "eval_shape": lambda tree: jaxinit.eval_shape(lambda: tree),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_that_jax_cannot_take_apart(name):
    call = TREES[name]
    message = r"keys of each dict in a tree must sort; got \[1, 'b'\]\. Write all"
    refused(lambda: call(UNSORTED), TypeError, message)
    refused(lambda: call(DEEP), ValueError, "tree is nested too deep for JAX")


@pytest.mark.parametrize("fn", [None, 3, "init", {"w": LEAF}, KEY])
def test_functions_are_named(fn):
    cure = r"got .*\. Pass model.init, or a function of your own"
    for name in ("init", "plan", "eval_shape"):
        call = getattr(jaxinit, name)
        message = (
            rf"(?s){name}\(fn=...\) must be a function that returns a pytree; {cure}"
        )
        refused(lambda call=call: call(fn, KEY), TypeError, message)
    for name in ("init", "plan"):
        call = getattr(jaxinit, name)
        refused(lambda call=call: call(fn, KEY, rules={}), TypeError, rf"{name}\(fn=")
    if fn is not None:
        params, x = {"w": jnp.ones((2, 2))}, jnp.ones((2, 2))
        refused(
            lambda: jaxinit.probe(lambda p, x: x @ p["w"], params, x, key=KEY, loss=fn),
            TypeError,
            r"probe\(loss=...\) must be None or a function of the result",
        )


@pytest.mark.parametrize("rules", [KEY, jnp.ones(3), np.ones(3), np.array("a"), 3])
def test_rules_are_no_array(rules):
    message = r"Rules\(rules=...\) must be a dict from pattern to initializer"
    refused(lambda: jaxinit.Rules(rules), TypeError, message)
    refused(lambda: jaxinit.init_tree(KEY, {"a": LEAF}, rules), TypeError, message)


@pytest.mark.parametrize("path", [None, 3, b"a.json", ["a.json"], KEY])
def test_paths_are_text(path):
    made = jaxinit.manifest({"a": jnp.ones(2)})
    for call in (
        jaxinit.Rules.load,
        jaxinit.Rules({}).save,
        jaxinit.Manifest.load,
        made.save,
    ):
        message = "path of a file must be a str or a Path; got "
        refused(lambda call=call: call(path), TypeError, message)


@pytest.mark.parametrize("name", ["a\x1b[2J", "b" * 10**5])
def test_no_path_or_structure_of_a_message_is_raw_or_long(name):
    draw = lambda key, x: {name: jax.random.normal(key, x[name].shape)}  # noqa: E731
    x = {name: jnp.ones(2)}
    plan = jaxinit.plan(draw, KEY, x)
    add = jaxinit.plan(lambda key, x: {name: x[name] + 1}, KEY, x)
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    mesh = jax.make_mesh((1,), ("a",))
    deep = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(None, "a"))
    struct = {name: jax.ShapeDtypeStruct((2,), "float32")}
    for call in (
        lambda: plan(KEY, {name: jnp.ones(3)}),
        lambda: plan(KEY, {name: jnp.ones(2), "c": 1}),
        lambda: add(KEY, struct),
        lambda: jaxinit.plan(draw, KEY, x, out_shardings={name: "b" * 10**5}),
        lambda: jaxinit.plan(draw, KEY, x, out_shardings={name: deep}),
        lambda: jaxinit.plan(
            draw, KEY, x, out_shardings={name: jax.sharding.PartitionSpec()}
        ),
        lambda: jaxinit.plan(draw, KEY, x, out_shardings={name: sharding, "c": 1}),
        lambda: jaxinit.manifest(struct),
    ):
        with pytest.raises((TypeError, ValueError)) as e:
            call()
        assert "\x1b" not in str(e.value) and len(str(e.value)) < 2000, e.value
